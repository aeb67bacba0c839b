/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a pod sends must bear its own addresses. Each function gives WEFT_PASSED
 * or the reason to drop the packet.
 */
#pragma once

#include "identity.h"

#define WEFT_ND_OPTIONS 4 /* options read in a discovery message */

struct weft_arp {
	__be16 htype;
	__be16 ptype;
	__u8 hlen;
	__u8 plen;
	__be16 op;
	__u8 sha[6];
	__u8 spa[4];
	__u8 tha[6];
	__u8 tpa[4];
};

/* A probe for an address (sender 0.0.0.0) claims nothing yet, so it is let pass. */
static __always_inline int weft_spoof_arp(struct __sk_buff *ctx, const struct weft_ep_row *ep)
{
	struct weft_arp arp;
	__be32 spa;

	if (!weft_load(ctx, ETH_LEN, &arp, sizeof(arp)))
		return WEFT_DROP_MALFORMED;
	if (arp.htype != bpf_htons(1) || arp.ptype != bpf_htons(ETH_IP4) || arp.hlen != 6 ||
	    arp.plen != 4)
		return WEFT_DROP_MALFORMED;
	weft_memcpy(&spa, arp.spa, 4);
	if (!weft_same_mac(arp.sha, ep->mac))
		return WEFT_DROP_SPOOFED_ARP;
	if (spa == 0 && arp.op == bpf_htons(1))
		return WEFT_PASSED;
	return (ep->flags & WEFT_EP_IPV4) && spa == ep->ip4 ? WEFT_PASSED : WEFT_DROP_SPOOFED_ARP;
}

static __always_inline int weft_spoof_ip4(const struct weft_ep_row *own, const struct weft_pkt *p)
{
	if (!(own->flags & WEFT_EP_IPV4) || p->src.v4 != own->ip4)
		return WEFT_DROP_SPOOFED_IPV4;
	return WEFT_PASSED;
}

static __always_inline bool weft_ip6_unspecified(const union weft_addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

static __always_inline bool weft_ip6_own(const struct weft_ep_row *ep, const union weft_addr *a)
{
	return (ep->flags & WEFT_EP_IPV6) && weft_same_ip6(a, ep->ip6);
}

static __always_inline bool weft_ip6_own_ll(const struct weft_ep_row *ep, const union weft_addr *a)
{
	return !weft_ip6_unspecified(a) && weft_same_ip6(a, ep->ll6);
}

/* Link-local and unspecified sources are good for discovery and group reports only. */
static __always_inline int weft_spoof_ip6(const struct weft_ep_row *own, const struct weft_pkt *p)
{
	if (weft_likely(weft_ip6_own(own, &p->src)))
		return WEFT_PASSED;
	if (p->proto == PROTO_ICMP6 && (p->kind == WEFT_ICMP_ND || p->kind == WEFT_ICMP_GROUP) &&
	    (weft_ip6_unspecified(&p->src) || weft_ip6_own_ll(own, &p->src)))
		return WEFT_PASSED;
	return WEFT_DROP_SPOOFED_IPV6;
}

/* Of this link: link-local, or a group of that scope. */
static __always_inline bool weft_ip6_on_link(const union weft_addr *a)
{
	if (a->b[0] == 0xff)
		return (a->b[1] & 0xf) == 2;
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* Link-layer addresses in the options must be the endpoint's own. */
static __always_inline int weft_nd_options(struct __sk_buff *ctx, const struct weft_pkt *p,
					   const struct weft_ep_row *own, __u32 off)
{
	struct {
		__u8 type;
		__u8 len;
		__u8 mac[6];
	} opt;

	for (int i = 0; i < WEFT_ND_OPTIONS; i++) {
		if (off >= p->len)
			return WEFT_PASSED;
		if (!weft_load(ctx, off, &opt, sizeof(opt)) || !opt.len)
			return WEFT_DROP_MALFORMED;
		if ((opt.type == 1 || opt.type == 2) && !weft_same_mac(opt.mac, own->mac))
			return WEFT_DROP_SPOOFED_ND;
		off += opt.len * 8;
	}
	return off >= p->len ? WEFT_PASSED : WEFT_DROP_SPOOFED_ND;
}

/*
 * Neighbour discovery: who looks for a neighbour tells its own address, who
 * answers or probes claims its own. A pod is no router and redirects nobody. The
 * host would route what is for farther than the link, past any policy.
 */
__noinline int weft_spoof_nd(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *own;
	union weft_addr target;
	__u8 type;

	if (!p)
		return WEFT_DROP_SPOOFED_ND;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	type = p->icmp >> 8;

	if (p->ttl != 255 || p->frag || type == 134 || type == 137 || !weft_ip6_on_link(&p->dst))
		return WEFT_DROP_SPOOFED_ND;
	if (type == 133)
		return weft_nd_options(ctx, p, own, p->l4_off + 8);
	if (!weft_load(ctx, p->l4_off + 8, &target, sizeof(target)))
		return WEFT_DROP_MALFORMED;
	if ((type == 136 || weft_ip6_unspecified(&p->src)) && !weft_ip6_own(own, &target) &&
	    !weft_ip6_own_ll(own, &target))
		return WEFT_DROP_SPOOFED_ND;
	return weft_nd_options(ctx, p, own, p->l4_off + 24);
}
