/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to struct weft_pkt. Usual packets are read in place; options,
 * extension headers and what lies outside the linear part are read by helper.
 * Each function gives WEFT_PASSED or the reason to drop the packet.
 */
#pragma once

#include "packet.h"

#define WEFT_EXT_MAX 6      /* extension headers walked */
#define WEFT_DIRECT_MAX 255 /* farthest transport header read in place */

/* Enough of the packet in one piece for Ethernet, IPv6 and TCP. */
#define WEFT_LINEAR (ETH_LEN + IP6_LEN + 20)

static __always_inline __u8 weft_icmp4_kind(__u8 type)
{
	switch (type) {
	case 8:
	case 13:
	case 15:
	case 17:
		return WEFT_ICMP_QUERY;
	case 0:
	case 14:
	case 16:
	case 18:
		return WEFT_ICMP_REPLY;
	case 3:
	case 4:
	case 5:
	case 11:
	case 12:
		return WEFT_ICMP_ERROR;
	}
	return WEFT_ICMP_OTHER;
}

static __always_inline __u8 weft_icmp6_kind(__u8 type)
{
	switch (type) {
	case 128:
		return WEFT_ICMP_QUERY;
	case 129:
		return WEFT_ICMP_REPLY;
	case 130:
	case 131:
	case 132:
	case 143:
		return WEFT_ICMP_GROUP;
	}
	if (type >= 133 && type <= 137)
		return WEFT_ICMP_ND;
	return type < 128 ? WEFT_ICMP_ERROR : WEFT_ICMP_OTHER;
}

static __always_inline int weft_parse_icmp(struct weft_pkt *p, const struct weft_l4hdr *h)
{
	p->icmp = (__u16)(h->type << 8 | h->code);
	p->kind = p->family == 4 ? weft_icmp4_kind(h->type) : weft_icmp6_kind(h->type);
	if (p->kind == WEFT_ICMP_QUERY || p->kind == WEFT_ICMP_REPLY)
		p->sport = p->dport = h->word[0];
	p->hdrs += 8;
	return WEFT_PASSED;
}

/* The least a header of the protocol may have. */
static __always_inline __u32 weft_l4_min(__u8 proto)
{
	switch (proto) {
	case PROTO_TCP:
		return 20;
	case PROTO_SCTP:
		return 12;
	case PROTO_UDP:
	case PROTO_ICMP:
	case PROTO_ICMP6:
		return 8;
	}
	return 0;
}

/* left: bytes of the packet from the transport header on. */
static __always_inline int weft_parse_l4(struct __sk_buff *ctx, struct weft_pkt *p, __u32 left)
{
	__u32 min = weft_l4_min(p->proto), off = p->l4_off;
	struct weft_l4hdr buf, *h = &buf;
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (!min)
		return WEFT_PASSED;
	if (left < min)
		return WEFT_DROP_MALFORMED;
	/* The bound is for the verifier; what is farther is read by helper. */
	if (weft_likely(off <= WEFT_DIRECT_MAX && data + off + sizeof(buf) <= end)) {
		h = data + off;
	} else {
		weft_memset(&buf, 0, sizeof(buf));
		/* What is not TCP may end before the flags; 8 bytes are there in any case. */
		if (!weft_load(ctx, off, &buf, p->proto == PROTO_TCP ? sizeof(buf) : 8))
			return WEFT_DROP_MALFORMED;
	}
	if (p->proto == PROTO_ICMP || p->proto == PROTO_ICMP6)
		return weft_parse_icmp(p, h);
	p->sport = h->port[0];
	p->dport = h->port[1];
	if (p->proto != PROTO_TCP) {
		p->hdrs += 8;
		return WEFT_PASSED;
	}
	p->tcp = h->flags;
	p->hdrs += (h->doff >> 4) * 4;
	return (h->doff >> 4) * 4 < 20 || left < (__u32)(h->doff >> 4) * 4 ? WEFT_DROP_MALFORMED
									   : WEFT_PASSED;
}

/* Later fragments carry no ports; a TCP one must not reach into the header either. */
static __always_inline int weft_parse_frag(__u8 *place, __u8 proto, __u16 offset, bool more)
{
	if (!offset && !more)
		return WEFT_PASSED;
	*place = offset ? WEFT_FRAG_LATER : WEFT_FRAG_FIRST;
	return offset && offset * 8 < weft_l4_min(proto) ? WEFT_DROP_MALFORMED : WEFT_PASSED;
}

static __always_inline int weft_parse_ip4(struct __sk_buff *ctx, struct weft_pkt *p)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_iphdr *ip = data + ETH_LEN;
	__u32 hlen, tot;
	__u16 frag;
	int reason;

	if ((void *)(ip + 1) > end || ip->vihl >> 4 != 4)
		return WEFT_DROP_MALFORMED;
	hlen = (ip->vihl & 0xf) * 4;
	tot = bpf_ntohs(ip->tot_len);
	if (weft_unlikely(!tot && ctx->gso_size))
		tot = p->len - ETH_LEN;
	if (hlen < IP4_LEN || tot < hlen || tot > p->len - ETH_LEN)
		return WEFT_DROP_MALFORMED;
	p->src.v4 = ip->src;
	p->dst.v4 = ip->dst;
	p->proto = ip->proto;
	p->ttl = ip->ttl;
	p->l4_off = ETH_LEN + hlen;
	p->hdrs = hlen;
	frag = bpf_ntohs(ip->frag_off);
	p->frag_id = ip->id;
	reason = weft_parse_frag(&p->frag, p->proto, frag & IP4_OFFSET, frag & IP4_MF);
	if (reason || p->frag == WEFT_FRAG_LATER)
		return reason;
	if (p->proto == PROTO_ICMP6)
		return WEFT_DROP_UNSUPPORTED_L4;
	return weft_parse_l4(ctx, p, tot - hlen);
}

static __always_inline bool weft_is_ext(__u8 proto)
{
	return proto == PROTO_HOPOPTS || proto == PROTO_ROUTING || proto == PROTO_FRAGMENT ||
	       proto == PROTO_AH || proto == PROTO_DSTOPTS;
}

/* Where the walk through the extension headers is. */
struct weft_walk {
	__u32 off; /* of the header named by proto */
	__u32 frag_id;
	__u8 proto;
	__u8 frag; /* enum weft_frag_place */
	__u8 pad[2];
};

/* One extension header. */
static __always_inline int weft_walk_one(struct __sk_buff *ctx, struct weft_walk *w)
{
	struct {
		__u8 next;
		__u8 len;
		__be16 frag; /* routing header: type and segments left */
		__be32 id;
	} h;
	__u32 size;
	__u16 frag;

	if (!weft_load(ctx, w->off, &h, sizeof(h)))
		return WEFT_DROP_MALFORMED;
	size = (h.len + 1) * 8;
	frag = bpf_ntohs(h.frag);
	if (w->proto == PROTO_FRAGMENT) {
		size = 8;
		w->frag_id = h.id;
		/* In a fragment the transport must follow at once: later ones tell no more. */
		if (((frag >> 3) || (frag & 1)) && weft_is_ext(h.next))
			return WEFT_DROP_EXT_HEADERS;
		if (weft_parse_frag(&w->frag, h.next, frag >> 3, frag & 1))
			return WEFT_DROP_MALFORMED;
	} else if (w->proto == PROTO_ROUTING) {
		/* Type 0, or one whose last destination is another than is seen here. */
		if (!(frag >> 8) || (frag & 0xff))
			return WEFT_DROP_EXT_HEADERS;
	} else if (w->proto == PROTO_AH) {
		size = (h.len + 2) * 4;
	}
	w->off += size;
	w->proto = h.next;
	return WEFT_PASSED;
}

/* Global, so that the verifier looks at it once and not with every call. */
__noinline int weft_walk_ext(struct __sk_buff *ctx, struct weft_walk *w)
{
	int reason;

	if (!w)
		return WEFT_DROP_MALFORMED;
	for (int i = 0; i < WEFT_EXT_MAX && weft_is_ext(w->proto); i++) {
		/* Hop-by-hop options stand first or not at all. */
		if (w->proto == PROTO_HOPOPTS && i)
			return WEFT_DROP_EXT_HEADERS;
		reason = weft_walk_one(ctx, w);
		if (reason)
			return reason;
	}
	return weft_is_ext(w->proto) ? WEFT_DROP_EXT_HEADERS : WEFT_PASSED;
}

/* Walks from the first extension header to the transport. */
static __always_inline int weft_parse_ext(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_walk w = {.off = ETH_LEN + IP6_LEN, .proto = p->proto};
	int reason = weft_walk_ext(ctx, &w);

	p->proto = w.proto;
	p->frag = w.frag;
	p->frag_id = w.frag_id;
	if (reason)
		return reason;
	if (w.off > p->len)
		return WEFT_DROP_MALFORMED;
	p->l4_off = w.off;
	p->hdrs = w.off - ETH_LEN;
	return WEFT_PASSED;
}

static __always_inline int weft_parse_ip6(struct __sk_buff *ctx, struct weft_pkt *p)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_ip6hdr *ip = data + ETH_LEN;
	__u32 tot;
	int reason;

	if ((void *)(ip + 1) > end || (*(__u8 *)ip >> 4) != 6)
		return WEFT_DROP_MALFORMED;
	tot = bpf_ntohs(ip->payload_len) + IP6_LEN;
	if (weft_unlikely(tot == IP6_LEN && ctx->gso_size))
		tot = p->len - ETH_LEN;
	if (tot > p->len - ETH_LEN)
		return WEFT_DROP_MALFORMED;
	weft_memcpy(&p->src, ip->src, sizeof(ip->src));
	weft_memcpy(&p->dst, ip->dst, sizeof(ip->dst));
	p->proto = ip->nexthdr;
	p->ttl = ip->hop_limit;
	p->l4_off = ETH_LEN + IP6_LEN;
	p->hdrs = IP6_LEN;
	if (weft_is_ext(p->proto)) {
		reason = weft_parse_ext(ctx, p);
		if (reason || p->frag == WEFT_FRAG_LATER)
			return reason;
	}
	if (p->l4_off > tot + ETH_LEN)
		return WEFT_DROP_MALFORMED;
	if (p->proto == PROTO_ICMP || p->proto == PROTO_IGMP || p->proto == PROTO_NONE)
		return WEFT_DROP_UNSUPPORTED_L4;
	return weft_parse_l4(ctx, p, tot + ETH_LEN - p->l4_off);
}

static __always_inline void weft_begin(struct __sk_buff *ctx, struct weft_pkt *p, __u8 hook)
{
	__u32 segs = ctx->gso_segs;

	weft_memset(p, 0, sizeof(*p));
	p->hook = p->dir = hook;
	p->now = bpf_jiffies64();
	p->len = ctx->len;
	p->segs = segs ? segs : 1;
}
