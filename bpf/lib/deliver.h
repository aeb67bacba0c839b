/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Straight into a pod of the node, or into the tunnel to another node. */
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

/*
 * One hop less, and the MACs of the receiver, if it is on this node. The sum of an
 * IPv4 header follows by increment.
 */
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
		/* The header has no sum of its own to balance what a device has summed up. */
		if (p->hook == WEFT_INGRESS)
			bpf_csum_update(ctx, ~(__u32)bpf_htons(1));
	}
	if (!ep)
		return true;
	weft_memcpy(eth->dst, ep->mac, 6);
	weft_memcpy(eth->src, ep->host_mac, 6);
	return true;
}

/*
 * Into the pod in a slot. What the host must answer itself (no hop left, too big)
 * goes to the stack; if that forwards it, it meets weft_to_pod.
 */
static __always_inline int weft_deliver_to(struct __sk_buff *ctx, struct weft_pkt *p, __u32 slot)
{
	struct weft_ep_row *ep = weft_ep_get(slot);
	__u32 ifindex;

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

/*
 * What is too big for the tunnel: the stack tells, by its route to the node's pods. The
 * node's own addresses it reaches without the tunnel, and would let pass what the node
 * does not believe. What called a service would not know the answer.
 */
static __always_inline int weft_tunnel_big(const struct weft_pkt *p)
{
	struct weft_ip ip;

	weft_ip_get(p->family, &p->dst, &ip);
	return weft_is_node(ip.identity) && !p->called ? WEFT_TOO_BIG : WEFT_PASSED;
}

/*
 * Into the tunnel to p->node. The stack answers what is too big or has no hop left:
 * its route to the node's pods leads to the tunnel's device, too. Global, so that
 * what it has on its stack ends with it.
 */
__noinline int weft_tunnel_send(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_tunnel_row *t = weft_tunnel_get();
	struct weft_ep_row *own;
	__u32 ifindex;
	int reason;

	if (!p)
		return WEFT_DROP_MALFORMED;
	own = weft_ep_get(p->own_slot);
	if (!t || !own)
		return WEFT_DROP_TUNNEL_TARGET;
	if (p->ttl <= 1)
		return WEFT_PASSED;
	if (!weft_fits(ctx, p, t->mtu))
		return weft_tunnel_big(p);
	ifindex = t->ifindex;
	reason = weft_tunnel_key(ctx, p->node, own->identity);
	if (reason)
		return reason;
	if (!weft_hop(ctx, p, NULL))
		return WEFT_DROP_REDIRECT;
	ctx->mark = WEFT_MARK_TUNNEL;
	return bpf_redirect(ifindex, 0) == TC_ACT_REDIRECT ? WEFT_SENT_ON : WEFT_DROP_REDIRECT;
}

/* What is for elsewhere is routed by the stack. */
static __always_inline int weft_deliver(struct __sk_buff *ctx, struct weft_pkt *p)
{
	if (p->other_slot)
		return weft_deliver_to(ctx, p, p->other_slot);
	if (weft_cfg.tunnel_port && p->node)
		return weft_tunnel_send(ctx, p);
	return WEFT_PASSED;
}
