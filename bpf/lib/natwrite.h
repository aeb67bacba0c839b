/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes a translation into the packet. Sums follow by increment, by the helpers
 * that know about sums that the device will finish (CHECKSUM_PARTIAL) and about
 * what a device has summed up already.
 *
 * TCP, UDP and ICMP queries can take another port or identifier. All else keeps
 * its ports: SCTP sums up its whole packet by a CRC that no increment renews, and
 * other protocols have no ports that are known here.
 */
#pragma once

#include "nat.h"

#define IP4_SUM 10
#define IP4_SRC 12
#define IP4_DST 16
#define IP6_SRC 8
#define IP6_DST 24

/* Whether another port can be written. */
static __always_inline bool weft_nat_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || weft_nat_icmp(proto);
}

/* Where the transport's sum is, from its header on; 0: none that is to follow. */
static __always_inline __u32 weft_sum_off(__u8 proto)
{
	switch (proto) {
	case PROTO_TCP:
		return 16;
	case PROTO_UDP:
		return 6;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		return 2;
	}
	return 0;
}

/* A sum of zero means none in UDP, and stays; one that becomes zero is written as its other form. */
static __always_inline __u64 weft_sum_flags(__u8 proto)
{
	return proto == PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

/*
 * An address of the packet's own header. sum: of the transport, from the start of
 * the frame, if addresses are a part of it; else 0. An IPv4 header balances its own
 * change; that of IPv6 has no sum, so what a device has summed up must follow.
 */
static __always_inline bool weft_write_addr(struct __sk_buff *ctx, const __u8 family, bool dst,
					    const union weft_addr *old, const union weft_addr *new,
					    __u32 sum, __u64 flags)
{
	flags |= BPF_F_PSEUDO_HDR;
	if (family == 4) {
		if (sum && bpf_l4_csum_replace(ctx, sum, old->v4, new->v4, flags | 4))
			return false;
		return !bpf_l3_csum_replace(ctx, ETH_LEN + IP4_SUM, old->v4, new->v4, 4) &&
		       !bpf_skb_store_bytes(ctx, ETH_LEN + (dst ? IP4_DST : IP4_SRC), &new->v4, 4,
					    0);
	}
	__s64 diff = bpf_csum_diff((__be32 *)(void *)old, 16, (__be32 *)(void *)new, 16, 0);

	if (sum && bpf_l4_csum_replace(ctx, sum, 0, diff, flags))
		return false;
	return !bpf_skb_store_bytes(ctx, ETH_LEN + (dst ? IP6_DST : IP6_SRC), new, 16,
				    BPF_F_RECOMPUTE_CSUM);
}

/* A port, or the identifier of an ICMP query. */
static __always_inline bool weft_write_port(struct __sk_buff *ctx, const struct weft_pkt *p,
					    bool dst, __be16 old, __be16 new)
{
	__u32 off = weft_nat_icmp(p->proto) ? 4 : dst ? 2 : 0;

	if (old == new)
		return true;
	return !bpf_l4_csum_replace(ctx, p->l4_off + weft_sum_off(p->proto), old, new,
				    weft_sum_flags(p->proto) | 2) &&
	       !bpf_skb_store_bytes(ctx, p->l4_off + off, &new, 2, 0);
}

/*
 * Translates the packet and what is known of it, so that who comes next sees the
 * translated one. False: the packet could not be written and must not go on.
 */
static __always_inline bool weft_nat_write(struct __sk_buff *ctx, struct weft_pkt *p,
					   const struct weft_nat *n, const __u8 family)
{
	bool dst = n->flags & WEFT_NAT_DST, later = p->frag == WEFT_FRAG_LATER;
	union weft_addr to, *addr = dst ? &p->dst : &p->src;
	__be16 *port = dst ? &p->dport : &p->sport, new = n->port;
	__u32 sum = later ? 0 : weft_sum_off(p->proto);

	weft_memcpy(&to, n->addr, sizeof(to));
	if (sum)
		sum += p->l4_off;
	/* The port first: what addresses do to the sum needs no reading of the packet. */
	if (!later && weft_nat_ports(p->proto) && !weft_write_port(ctx, p, dst, *port, new))
		return false;
	if (!weft_write_addr(ctx, family, dst, addr, &to, p->proto == PROTO_ICMP ? 0 : sum,
			     weft_sum_flags(p->proto)))
		return false;
	*addr = to;
	*port = new;
	if (weft_nat_icmp(p->proto))
		p->sport = p->dport = new;
	return true;
}
