/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors. They pass if the packet they quote belongs to a known flow and
 * was sent by whom the error goes to. From a pod, it must also be one that was
 * sent to this pod: pods are no routers. The flow must stand as it was decided, or
 * errors would carry on what a new policy refuses.
 */
#pragma once

#include "leg.h"

struct weft_quoted {
	union weft_addr src;
	union weft_addr dst;
	__be16 port[2];
	__u16 l4_off; /* from the start of the frame */
	__u8 proto;
};

static __always_inline bool weft_quoted_ports(struct __sk_buff *ctx, struct weft_quoted *q,
					      __u32 off)
{
	struct weft_l4hdr h;
	bool icmp = q->proto == PROTO_ICMP || q->proto == PROTO_ICMP6;

	q->port[0] = q->port[1] = 0;
	q->l4_off = off;
	if (!icmp && q->proto != PROTO_TCP && q->proto != PROTO_UDP && q->proto != PROTO_SCTP)
		return true;
	if (!weft_load(ctx, off, &h, 8))
		return false;
	q->port[0] = icmp ? h.word[0] : h.port[0];
	q->port[1] = icmp ? h.word[0] : h.port[1];
	return true;
}

static __always_inline bool weft_quoted_ip4(struct __sk_buff *ctx, struct weft_quoted *q, __u32 off)
{
	struct weft_iphdr ip;

	if (!weft_load(ctx, off, &ip, sizeof(ip)) || ip.vihl >> 4 != 4 ||
	    (bpf_ntohs(ip.frag_off) & IP4_OFFSET))
		return false;
	q->src.v4 = ip.src;
	q->dst.v4 = ip.dst;
	q->proto = ip.proto;
	return weft_quoted_ports(ctx, q, off + (ip.vihl & 0xf) * 4);
}

/* Of extension headers only one is understood here: that of a first fragment. */
static __always_inline bool weft_quoted_ip6(struct __sk_buff *ctx, struct weft_quoted *q, __u32 off)
{
	struct {
		__u8 next;
		__u8 reserved;
		__be16 offset;
		__be32 id;
	} frag;
	struct weft_ip6hdr ip;

	if (!weft_load(ctx, off, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 6)
		return false;
	weft_memcpy(&q->src, ip.src, 16);
	weft_memcpy(&q->dst, ip.dst, 16);
	q->proto = ip.nexthdr;
	off += IP6_LEN;
	if (q->proto == PROTO_FRAGMENT) {
		if (!weft_load(ctx, off, &frag, sizeof(frag)) || (bpf_ntohs(frag.offset) >> 3))
			return false;
		q->proto = frag.next;
		off += sizeof(frag);
	}
	return weft_quoted_ports(ctx, q, off);
}

__noinline int weft_icmp_error(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_quoted q = {};
	struct weft_ep_row *own;
	union weft_ct_key key;
	struct weft_ct *ct, *beside;
	bool known, answered;
	__u32 off;

	weft_memset(&key, 0, sizeof(key));
	if (!p)
		return WEFT_DROP_ICMP_NO_FLOW;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	off = p->l4_off + 8;
	known = p->family == 4 ? weft_quoted_ip4(ctx, &q, off) : weft_quoted_ip6(ctx, &q, off);
	if (!known || !weft_same_ip6(&q.src, p->dst.b) ||
	    (p->hook == WEFT_EGRESS && !weft_same_ip6(&q.dst, p->src.b)))
		return WEFT_DROP_ICMP_NO_FLOW;
	p->src_b = weft_ct_fill(&key, p->family, &q.src, &q.dst, q.port[0], q.port[1], q.proto);
	ct = weft_ct_any(&key, p->family, &answered);
	weft_ct_aside(&key, p->family, 1);
	beside = weft_l7_active() ? weft_ct_any(&key, p->family, &answered) : NULL;
	if (!ct)
		ct = beside;
	if (!ct || (ct->flags & WEFT_CT_REFUSED))
		return WEFT_DROP_ICMP_NO_FLOW;
	/* An error goes against the packet it quotes. */
	known = weft_ct_reply(p, ct);
	p->answers = !known && (ct->flags & WEFT_CT_SERVICE);
	/* Of two legs, what is on its way from elsewhere is about the one that goes there. */
	p->proxy = ct->ruleset && (p->hook == WEFT_EGRESS || weft_proxy_sent(ct, known) ||
				   (beside && ctx->ingress_ifindex));
	return weft_ct_holds(ctx, p, own, p->hook, ct, !known) ? WEFT_PASSED
							       : WEFT_DROP_ICMP_NO_FLOW;
}
