/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about translated flows. An error goes against the packet that it
 * quotes, so the quote turned round is a packet of the error's own direction: its
 * key says what becomes of the error's address and, the other way round, of the
 * quote. The sum of the quoted transport is left as it is: nobody looks at it, and
 * often it is cut off.
 */
#pragma once

#include "icmp.h"
#include "natwrite.h"

/* The quoted address. An IPv4 header balances its change, so the error's sum stays. */
static __always_inline bool weft_quote_addr(struct __sk_buff *ctx, struct weft_pkt *p, __u32 quote,
					    bool dst, const union weft_addr *old,
					    const union weft_addr *new)
{
	if (p->family == 4)
		return !bpf_l3_csum_replace(ctx, quote + IP4_SUM, old->v4, new->v4, 4) &&
		       !bpf_skb_store_bytes(ctx, quote + (dst ? IP4_DST : IP4_SRC), &new->v4, 4, 0);

	__s64 diff = bpf_csum_diff((__be32 *)(void *)old, 16, (__be32 *)(void *)new, 16, 0);

	return !bpf_l4_csum_replace(ctx, p->l4_off + 2, 0, diff, 0) &&
	       !bpf_skb_store_bytes(ctx, quote + (dst ? IP6_DST : IP6_SRC), new, 16, 0);
}

/* The quoted port or identifier, and the sum of the error. */
static __always_inline bool weft_quote_port(struct __sk_buff *ctx, struct weft_pkt *p,
					    const struct weft_quoted *q, bool dst, __be16 new)
{
	__be16 old = dst ? q->port[1] : q->port[0];
	__u32 off = weft_nat_icmp(q->proto) ? 4 : dst ? 2 : 0;

	if (old == new || !weft_nat_ports(q->proto))
		return true;
	return !bpf_l4_csum_replace(ctx, p->l4_off + 2, old, new, 2) &&
	       !bpf_skb_store_bytes(ctx, q->l4_off + off, &new, 2, 0);
}

/*
 * Translates an error at a place of that kind: WEFT_PASSED, also if it is about no
 * translated flow, or the reason to drop it. An error of somebody between keeps its
 * sender.
 */
__noinline int weft_nat_error(struct __sk_buff *ctx, struct weft_pkt *p, __u32 kind)
{
	struct weft_quoted q = {};
	union weft_addr old, new;
	union weft_nat_key key;
	struct weft_nat *n;
	bool known, dst;
	__u32 quote;

	if (!p)
		return WEFT_DROP_NAT_FULL;
	quote = p->l4_off + 8;
	known = p->family == 4 ? weft_quoted_ip4(ctx, &q, quote) : weft_quoted_ip6(ctx, &q, quote);
	if (!known)
		return WEFT_PASSED;
	weft_nat_fill(&key, p->family, kind, &q.dst, &q.src, q.port[1], q.port[0], q.proto);
	n = weft_nat_find(&key, p->family);
	if (!n)
		return WEFT_PASSED;
	dst = n->flags & WEFT_NAT_DST;
	old = dst ? q.src : q.dst;
	weft_memcpy(&new, n->addr, sizeof(new));
	if (!weft_quote_port(ctx, p, &q, !dst, n->port) ||
	    !weft_quote_addr(ctx, p, quote, !dst, &old, &new))
		return WEFT_DROP_NAT_FULL;
	if (!weft_same_ip6(dst ? &p->dst : &p->src, old.b))
		return WEFT_PASSED;
	if (!weft_write_addr(ctx, p->family, dst, &old, &new, p->family == 6 ? p->l4_off + 2 : 0,
			     0))
		return WEFT_DROP_NAT_FULL;
	if (dst)
		p->dst = new;
	else
		p->src = new;
	return WEFT_PASSED;
}
