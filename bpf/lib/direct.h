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
