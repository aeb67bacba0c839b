/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's routes from its pods to those of other nodes. A flow asks the kernel once a
 * tick of its clock (1 to 10 ms), and remembers the answer on the CPU that it is on: to ask
 * reads a dozen lines of memory, for each packet in either direction.
 */
#pragma once

#include "direct.h"

#define FIB_SUCCESS 0 /* of bpf_fib_lookup: a route, and a neighbour that is known */

#define WEFT_ROUTES 256

/* A route as the kernel gave it. */
struct weft_route_row {
	__u64 pod[2];
	__u64 far[2];
	__u8 hop[16];
	__u32 ifindex; /* that it leaves by; 0: the place is free */
	__u32 at;      /* jiffies, low half */
	__be16 pod_port;
	__be16 far_port;
	__u16 mtu;
	__u8 family; /* of hop, as the kernel calls it */
	__u8 pad;
};

_Static_assert(sizeof(struct weft_route_row) == 64, "weft_route_row");

/* Scratch: not pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEFT_ROUTES);
	__type(key, __u32);
	__type(value, struct weft_route_row);
} weft_routes SEC(".maps");

/* A packet's own length after Ethernet, or that of each segment of it. */
static __always_inline __u16 weft_wire_size(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	__u32 gso = ctx->gso_size;

	return gso ? gso + p->hdrs : p->len - ETH_LEN;
}

/* What of the IP header routes may ask for. */
static __always_inline __be32 weft_flowinfo(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_iphdr *ip4 = data + ETH_LEN;
	struct weft_ip6hdr *ip6 = data + ETH_LEN;

	if (p->family == 4)
		return (void *)(ip4 + 1) > end ? 0 : ip4->tos;
	return (void *)(ip6 + 1) > end ? 0 : ip6->vtcfl & bpf_htonl(0x0fffffff);
}

static __always_inline __u32 weft_route_place(const struct weft_pkt *p)
{
	__u32 h = p->src.w[0] ^ p->src.w[3] ^ p->dst.w[0] ^ p->dst.w[3];

	return ((h ^ p->sport ^ p->dport) * 0x9e3779b1) >> 24;
}

/* Whether a row is about the packet's flow, and of this tick; sent: by the pod. */
static __always_inline bool weft_route_is(const struct weft_route_row *row,
					  const struct weft_pkt *p, const bool sent)
{
	const union weft_addr *pod = sent ? &p->src : &p->dst, *far = sent ? &p->dst : &p->src;

	return row->ifindex && row->at == p->now && row->far[0] == far->d[0] &&
	       row->far[1] == far->d[1] && row->pod[0] == pod->d[0] && row->pod[1] == pod->d[1] &&
	       row->pod_port == (sent ? p->sport : p->dport) &&
	       row->far_port == (sent ? p->dport : p->sport);
}

static __always_inline void weft_route_keep(struct weft_route_row *row, const struct weft_pkt *p,
					    const struct bpf_fib_lookup *fib, const bool sent)
{
	const union weft_addr *pod = sent ? &p->src : &p->dst, *far = sent ? &p->dst : &p->src;

	row->pod[0] = pod->d[0];
	row->pod[1] = pod->d[1];
	row->far[0] = far->d[0];
	row->far[1] = far->d[1];
	weft_memcpy(row->hop, fib->ipv6_dst, 16);
	row->ifindex = fib->ifindex;
	row->at = p->now;
	row->pod_port = sent ? p->sport : p->dport;
	row->far_port = sent ? p->dport : p->sport;
	row->mtu = fib->tot_len;
	row->family = fib->family;
}

/*
 * Asks the kernel as it would ask itself about a packet of the pod behind the device from.
 * The length is only for the answer to tell the MTU. False: no route, or no neighbour.
 */
static __noinline bool weft_route_ask(struct __sk_buff *ctx, struct weft_pkt *p, __u32 from,
				      struct weft_route_row *row)
{
	bool sent = p->hook == WEFT_EGRESS;
	union weft_addr *pod = sent ? &p->src : &p->dst, *far = sent ? &p->dst : &p->src;
	struct bpf_fib_lookup fib = {
		.l4_protocol = p->proto,
		.sport = sent ? p->sport : p->dport,
		.dport = sent ? p->dport : p->sport,
		.tot_len = 1,
		.ifindex = from,
	};

	if (sent)
		fib.flowinfo = weft_flowinfo(ctx, p);
	if (p->family == 4) {
		fib.family = AF_INET;
		fib.ipv4_src = pod->v4;
		fib.ipv4_dst = far->v4;
	} else {
		fib.family = AF_INET6;
		weft_memcpy(fib.ipv6_src, pod, 16);
		weft_memcpy(fib.ipv6_dst, far, 16);
	}
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != FIB_SUCCESS)
		return false;
	if (!bpf_map_lookup_elem(&weft_uplink, &fib.ifindex))
		return false;
	weft_route_keep(row, p, &fib, sent);
	return true;
}

/*
 * The route of a packet that goes to another node's pod, or came from one: then of what
 * answers it. NULL where the stack has to see to it, which is also where the route leads
 * to no uplink. from: the pod's device.
 */
static __always_inline struct weft_route_row *weft_route(struct __sk_buff *ctx, struct weft_pkt *p,
							 __u32 from, const bool sent)
{
	__u32 place = weft_route_place(p);
	struct weft_route_row *row = bpf_map_lookup_elem(&weft_routes, &place);

	if (!row)
		return NULL;
	if (weft_likely(weft_route_is(row, p, sent)))
		return row;
	return weft_route_ask(ctx, p, from, row) ? row : NULL;
}
