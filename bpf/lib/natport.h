/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A port of the node's for a flow on its way out. */
#pragma once

#include "hostport.h"
#include "natwrite.h"

#define WEFT_NAT_TRIES 32
#define WEFT_PORT_PRIVILEGED 1024

/* Whether a socket of the host's own would take the answers; listening ones count. */
static __always_inline bool weft_port_used(struct __sk_buff *ctx, const struct weft_pkt *p,
					   const struct weft_nat *n)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 size;

	if (p->family == 4) {
		tuple.ipv4.saddr = p->dst.v4;
		weft_memcpy(&tuple.ipv4.daddr, n->addr, 4);
		tuple.ipv4.sport = p->dport;
		tuple.ipv4.dport = n->port;
		size = sizeof(tuple.ipv4);
	} else {
		weft_memcpy(tuple.ipv6.saddr, &p->dst, 16);
		weft_memcpy(tuple.ipv6.daddr, n->addr, 16);
		tuple.ipv6.sport = p->dport;
		tuple.ipv6.dport = n->port;
		size = sizeof(tuple.ipv6);
	}
	if (p->proto == PROTO_TCP)
		sk = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else if (p->proto == PROTO_UDP)
		sk = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Where the search begins: another place for each flow, the same for one flow. */
static __always_inline __u32 weft_port_hash(const struct weft_pkt *p)
{
	__u32 h = (__u32)p->sport << 16 | p->dport;

	for (int i = 0; i < 4; i++) {
		h = (h ^ p->src.w[i]) * 0x9e3779b1;
		h = (h ^ h >> 15 ^ p->dst.w[i]) * 0x85ebca6b;
	}
	return h ^ h >> 16;
}

/*
 * The i'th port to try: first the flow's own, then some of the range, far from
 * each other so that a crowded part of it is left at once.
 */
static __always_inline __be16 weft_port_try(const struct weft_pkt *p, __u32 i)
{
	__u32 hash = weft_port_hash(p);
	__u32 count = weft_cfg.snat_last - weft_cfg.snat_first + 1;
	__u32 step = count > 2 * WEFT_NAT_TRIES ? hash >> 16 | 1 : 1;

	if (!i)
		return p->sport;
	return bpf_htons(weft_cfg.snat_first + (hash + i * step) % count);
}

/*
 * Enters a flow whose source becomes n's address, with the i'th port. Pods get no
 * privileged port. Global, so that the verifier looks at it once and not with
 * every call.
 */
__noinline int weft_nat_try(struct __sk_buff *ctx, struct weft_pkt *p, struct weft_nat *n, __u32 i)
{
	union weft_nat_key key;

	if (!p || !n)
		return WEFT_NAT_NOROOM;
	n->created = n->seen = p->now; /* in place: stack is short */
	n->port = weft_port_try(p, i);
	if ((p->proto == PROTO_TCP || p->proto == PROTO_UDP) &&
	    (bpf_ntohs(n->port) < WEFT_PORT_PRIVILEGED || weft_port_taken(p, n) ||
	     weft_port_used(ctx, p, n)))
		return WEFT_NAT_TAKEN;
	weft_nat_fill(&key, p->family, WEFT_NAT_OUT, &p->src, &p->dst, p->sport, p->dport,
		      p->proto);
	return weft_nat_enter(&key, n, p->family);
}

/*
 * Enters a flow with a port that nobody else has towards the same remote address
 * and port. What cannot change its port must find its own one free.
 */
static __always_inline int weft_nat_source(struct __sk_buff *ctx, struct weft_pkt *p,
					   struct weft_nat *n)
{
	__u32 tries = weft_nat_ports(p->proto) ? WEFT_NAT_TRIES + 1 : 1;
	int entered = WEFT_NAT_TAKEN;

	for (__u32 i = 0; i < WEFT_NAT_TRIES + 1 && i < tries && entered == WEFT_NAT_TAKEN; i++)
		entered = weft_nat_try(ctx, p, n, i);
	if (entered == WEFT_NAT_TAKEN)
		return WEFT_DROP_SNAT_PORTS;
	return entered == WEFT_NAT_NOROOM ? WEFT_DROP_NAT_FULL : WEFT_PASSED;
}
