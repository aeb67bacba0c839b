/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The device of the tunnel between nodes: what comes out of it, and what goes in. */
#include "lib/overlay.h"
#include "lib/reject.h"

SEC("tcx/ingress")
int weft_from_vxlan(struct __sk_buff *ctx)
{
	struct weft_pkt p;
	int reason;

	if (!weft_cfg.tunnel_port)
		return TC_ACT_SHOT;
	weft_begin(ctx, &p, WEFT_INGRESS);
	reason = weft_overlay_in(ctx, &p);
	if (!reason && weft_unlikely(p.proxy)) {
		weft_count(WEFT_PASSED, WEFT_INGRESS, p.segs, p.len);
		/* By this device, which has no address, the stack takes only what it would
		 * send by it, wherever rp_filter is not 0: nothing of nodes and the world. */
		if (p.wire < WEFT_ID_CLUSTER_MIN)
			return weft_proxy_turn(ctx, WEFT_MARK_PROXY);
		ctx->mark = WEFT_MARK_PROXY;
		return TC_ACT_OK;
	}
	if (!reason)
		reason = weft_deliver_to(ctx, &p, p.own_slot);
	if (reason > 0) {
		int verdict = weft_refuse(ctx, &p, reason);

		if (weft_unlikely(p.ported && p.strange))
			weft_port_refused(&p);
		return weft_tells(&p, reason) ? weft_reject_back(ctx, &p) : verdict;
	}
	if (reason != -TC_ACT_REDIRECT)
		return TC_ACT_OK;
	weft_count(WEFT_PASSED, WEFT_INGRESS, p.segs, p.len);
	return TC_ACT_REDIRECT;
}

SEC("tcx/egress")
int weft_to_vxlan(struct __sk_buff *ctx)
{
	struct weft_pkt p;
	int reason, verdict;

	if (!weft_cfg.tunnel_port)
		return TC_ACT_SHOT;
	if (weft_likely(weft_tunnel_marked(ctx))) { /* from a pod, with its key */
		ctx->mark = 0;
		return TC_ACT_OK;
	}
	weft_begin(ctx, &p, WEFT_EGRESS);
	reason = weft_overlay_out(ctx, &p);
	if (!reason)
		return TC_ACT_OK;
	verdict = weft_refuse(ctx, &p, reason);
	return weft_tells(&p, reason) ? weft_reject_back(ctx, &p) : verdict;
}
