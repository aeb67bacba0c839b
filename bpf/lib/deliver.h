/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From one pod of the node straight into another. */
#pragma once

#include "flow.h"
#include "identity.h"
#include "svcnat.h"

/* Whether the receiver's device takes the packet, or each segment of it. */
static __always_inline bool weft_fits(struct __sk_buff *ctx, const struct weft_pkt *p, __u32 mtu)
{
	__u32 gso;

	if (weft_likely(p->len - ETH_LEN <= mtu))
		return true;
	gso = ctx->gso_size;
	return gso && gso + p->hdrs <= mtu;
}

/* One hop less. The sum of an IPv4 header follows by increment. */
static __always_inline bool weft_hop(struct __sk_buff *ctx, const struct weft_pkt *p,
				     const struct weft_ep_row *ep)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth = data;

	if (p->family == 4) {
		struct weft_iphdr *ip = data + ETH_LEN;
		__u32 sum;

		if ((void *)(ip + 1) > end)
			return false;
		sum = ip->csum + bpf_htons(0x0100);
		ip->csum = (__u16)(sum + (sum >= 0xffff));
		ip->ttl--;
	} else {
		struct weft_ip6hdr *ip = data + ETH_LEN;

		if ((void *)(ip + 1) > end)
			return false;
		ip->hop_limit--;
	}
	weft_memcpy(eth->dst, ep->mac, 6);
	weft_memcpy(eth->src, ep->host_mac, 6);
	return true;
}

/*
 * What the host must answer itself (no hop left, too big) goes to the stack, as
 * does what is for elsewhere; if the stack forwards it, it meets weft_to_pod.
 */
static __always_inline int weft_deliver(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *ep;
	__u32 ifindex;

	if (!p->other_slot)
		return WEFT_PASSED;
	ep = weft_ep_get(p->other_slot);
	if (!ep)
		return WEFT_DROP_REDIRECT;
	if (p->ttl <= 1 || !weft_fits(ctx, p, ep->mtu))
		return WEFT_PASSED;
	ifindex = ep->ifindex;
	if (weft_unlikely(p->answers)) {
		int reason = weft_svc_answer(ctx, p);

		if (reason)
			return reason;
	}
	if (!weft_hop(ctx, p, ep))
		return WEFT_DROP_REDIRECT;
	return bpf_redirect_peer(ifindex, 0) == TC_ACT_REDIRECT ? -TC_ACT_REDIRECT
								: WEFT_DROP_REDIRECT;
}
