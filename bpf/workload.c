/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The host-side device of a pod: what the pod sends, and what is sent to it. */
#include "lib/reject.h"
#include "lib/workload.h"

SEC("tcx/ingress")
int weft_from_pod(struct __sk_buff *ctx)
{
	struct weft_pkt p;
	int reason;

	weft_begin(ctx, &p, WEFT_EGRESS);
	ctx->mark = 0; /* marks mean something on the host; a pod has no say in it */
	reason = weft_examine(ctx, &p, WEFT_EGRESS);
	if ((reason == WEFT_PASSED && weft_likely(!p.proxy)) || reason == WEFT_HAIRPIN)
		reason = weft_deliver(ctx, &p);
	if (reason == WEFT_PASSED && p.direct && !p.proxy && weft_in_direct(p.family, &p.src))
		reason = weft_past_send(ctx, &p);
	if (reason > 0) {
		int verdict = weft_refuse(ctx, &p, reason);

		/* Not before the event about it, which names the service. */
		if (weft_unlikely(p.called && p.strange))
			weft_svc_refused(&p);
		return weft_tells(&p, reason) ? weft_reject(ctx, &p) : verdict;
	}
	weft_count(WEFT_PASSED, WEFT_EGRESS, p.segs, p.len);
	if (weft_unlikely(p.proxy)) {
		ctx->mark = WEFT_MARK_PROXY;
		return TC_ACT_OK;
	}
	if (reason == WEFT_SENT_ON)
		return TC_ACT_REDIRECT;
	if (weft_cfg.tunnel_port && reason == WEFT_TOO_BIG)
		return weft_too_big(ctx, &p);
	if (reason != -TC_ACT_REDIRECT) {
		if (p.inside)
			ctx->mark = WEFT_MARK_INSIDE;
		return TC_ACT_OK;
	}
	weft_count(WEFT_PASSED, WEFT_INGRESS, p.segs, p.len);
	return TC_ACT_REDIRECT;
}

SEC("tcx/egress")
int weft_to_pod(struct __sk_buff *ctx)
{
	struct weft_pkt p;
	int reason;

	weft_begin(ctx, &p, WEFT_INGRESS);
	reason = weft_examine(ctx, &p, WEFT_INGRESS);
	if (!reason && weft_unlikely(p.answers) && !p.proxy)
		reason = weft_svc_answer(ctx, &p);
	if (reason > 0) {
		int verdict = weft_refuse(ctx, &p, reason);

		if (weft_unlikely(p.ported && p.strange))
			weft_port_refused(&p);
		return weft_tells(&p, reason) ? weft_reject_back(ctx, &p) : verdict;
	}
	weft_count(WEFT_PASSED, WEFT_INGRESS, p.segs, p.len);
	return weft_unlikely(p.proxy) ? weft_proxy_turn(ctx, WEFT_MARK_PROXY) : TC_ACT_OK;
}
