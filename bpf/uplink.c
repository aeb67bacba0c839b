/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A device by which packets leave the cluster. What passes goes on to the
 * programs of others on the device.
 */
#include "lib/reject.h"
#include "lib/uplink.h"

static __always_inline int weft_at_uplink(struct __sk_buff *ctx, const __u8 way)
{
	struct weft_pkt p;
	int reason;

	weft_begin(ctx, &p, way);
	reason = weft_uplink_packet(ctx, &p, way);
	if (reason > 0) {
		int verdict;

		if (weft_unlikely(p.ported && p.strange))
			weft_port_refused(&p);
		verdict = weft_refuse(ctx, &p, reason);
		return weft_tells(&p, reason) && way == WEFT_EGRESS ? weft_reject_back(ctx, &p)
								    : verdict;
	}
	if (way == WEFT_INGRESS && reason == -TC_ACT_REDIRECT)
		weft_count(WEFT_PASSED, WEFT_INGRESS, p.segs, p.len);
	return reason == -TC_ACT_REDIRECT || reason == WEFT_SENT_ON ? TC_ACT_REDIRECT
								    : TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int weft_from_net(struct __sk_buff *ctx)
{
	return weft_at_uplink(ctx, WEFT_INGRESS);
}

SEC("tcx/egress")
int weft_to_net(struct __sk_buff *ctx)
{
	return weft_at_uplink(ctx, WEFT_EGRESS);
}
