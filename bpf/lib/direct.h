/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Between pods of two nodes where packets are routed as they are: which flows pass the
 * host's stack by, and where they go. It is said of a flow, not of a direction, so that
 * a firewall of the host that follows connections sees both directions or none. What
 * the stack would have to answer, to cut in pieces or to look at more closely, it gets,
 * as it gets everything where there is no such range (weft_cfg.direct4 and direct6).
 */
#pragma once

#include "ct.h"

#define AF_INET 2
#define AF_INET6 10

/* Answers of bpf_fib_lookup that tell a route. */
#define FIB_SUCCESS 0
#define FIB_NO_NEIGH 7

static __always_inline bool weft_in_direct(__u8 family, const union weft_addr *addr)
{
	if (family == 4)
		return weft_cfg.direct4_mask &&
		       (addr->v4 & weft_cfg.direct4_mask) == weft_cfg.direct4;
	return weft_cfg.direct6_mask[0] &&
	       !((addr->d[0] & weft_cfg.direct6_mask[0]) ^ weft_cfg.direct6[0]) &&
	       !((addr->d[1] & weft_cfg.direct6_mask[1]) ^ weft_cfg.direct6[1]);
}

/*
 * Notes of a packet whose flow stands, which goes on in the direction it was decided
 * for: whether it keeps its source on its way out, and whether it passes the stack by.
 * The proxy's flows never do, nor those that are translated: the stack leads to both.
 */
static __always_inline void weft_ct_way(struct weft_pkt *p, const struct weft_ct *ct, __u8 hook,
					bool reply)
{
	bool to_second = (hook == WEFT_EGRESS) != reply;
	__u32 identity = ct->identity[0], second = ct->identity[1];
	__u32 slot = ct->slot[0], second_slot = ct->slot[1];

	/* Keeps the compiler from choosing an address instead, which verifiers refuse. */
	asm volatile("" : "+r"(identity), "+r"(second), "+r"(slot), "+r"(second_slot));
	if (to_second) {
		identity = second;
		slot = second_slot;
	}
	p->inside = hook == WEFT_EGRESS && !(ct->flags & WEFT_CT_NAT) && !weft_is_outside(identity);
	p->direct =
		!(ct->flags & WEFT_CT_NAT) && !ct->ruleset && !slot && weft_is_elsewhere(identity);
}

/*
 * Whether the stack would do no more with the packet than send it on. It drops what was
 * sent to another MAC, and reads options.
 */
static __always_inline bool weft_is_plain(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	return ctx->pkt_type == PACKET_HOST && p->ttl > 1 && !p->frag &&
	       p->l4_off == ETH_LEN + (p->family == 4 ? IP4_LEN : IP6_LEN) &&
	       p->kind <= WEFT_ICMP_REPLY;
}

/* What a route's MTU must carry: the packet, or each segment of it. */
static __always_inline __u16 weft_wire_size(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	__u32 gso = ctx->gso_size;

	return gso ? gso + p->hdrs : p->len - ETH_LEN;
}

/* The route that the stack would take for the packet from that device. */
static __always_inline long weft_route(struct __sk_buff *ctx, const struct weft_pkt *p,
				       struct bpf_fib_lookup *fib)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_iphdr *ip4 = data + ETH_LEN;
	struct weft_ip6hdr *ip6 = data + ETH_LEN;

	fib->l4_protocol = p->proto;
	fib->sport = p->sport;
	fib->dport = p->dport;
	fib->tot_len = weft_wire_size(ctx, p);
	fib->ifindex = ctx->ifindex;
	if (p->family == 4) {
		if ((void *)(ip4 + 1) > end)
			return -1;
		fib->family = AF_INET;
		fib->tos = ip4->tos;
		fib->ipv4_src = p->src.v4;
		fib->ipv4_dst = p->dst.v4;
	} else {
		if ((void *)(ip6 + 1) > end)
			return -1;
		fib->family = AF_INET6;
		fib->flowinfo = ip6->vtcfl & bpf_htonl(0x0fffffff);
		weft_memcpy(fib->ipv6_src, &p->src, 16);
		weft_memcpy(fib->ipv6_dst, &p->dst, 16);
	}
	return bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
}

/*
 * Whether the way back to the sender leads out of the device that the packet came by: as
 * a strict rp_filter, whatever that of the device is set to. All else the stack decides.
 */
static __noinline bool weft_came_right(struct __sk_buff *ctx, struct weft_pkt *p, __u32 pod)
{
	struct bpf_fib_lookup fib = {
		.l4_protocol = p->proto,
		.sport = p->dport,
		.dport = p->sport,
		.ifindex = pod,
	};
	long found;

	if (p->family == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = p->dst.v4;
		fib.ipv4_dst = p->src.v4;
	} else {
		fib.family = AF_INET6;
		weft_memcpy(fib.ipv6_src, &p->dst, 16);
		weft_memcpy(fib.ipv6_dst, &p->src, 16);
	}
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	return (found == FIB_SUCCESS || found == FIB_NO_NEIGH) && fib.ifindex == ctx->ifindex;
}
