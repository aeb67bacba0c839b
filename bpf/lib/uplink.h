/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way out of the cluster and back. What a pod sends to the outside leaves with
 * the node's address and a port of the node's; its answers are turned back before
 * the stack sees them. Policy was asked at the pod's device, about the pod. All
 * else passes untouched, also what cannot be read: the host's traffic is not ours.
 */
#pragma once

#include "flow.h"
#include "frag.h"
#include "hostport.h"
#include "leg.h"
#include "naterr.h"
#include "natport.h"
#include "parse.h"
#include "past.h"
#include "proxyway.h"

/* Protocols whose sums cover addresses, at places that are not known here. */
#define PROTO_DCCP 33
#define PROTO_UDPLITE 136

/*
 * Whether the flow goes on under the pod's own address: one that was opened from
 * outside, and one of TCP that was answered before its device became an uplink.
 */
static __always_inline bool weft_keeps_source(const struct weft_pkt *p, const struct weft_ct *ct,
					      bool answered)
{
	if (weft_ct_reply(p, ct))
		return true;
	return answered && p->proto == PROTO_TCP && !(ct->flags & WEFT_CT_NAT) &&
	       (p->tcp & (TCP_SYN | TCP_ACK)) != TCP_SYN;
}

/* Whether a flow of this kind can be known by its answers. */
static __always_inline bool weft_can_leave(const struct weft_pkt *p)
{
	if (weft_nat_icmp(p->proto))
		return p->kind == WEFT_ICMP_QUERY;
	return p->proto != PROTO_AH && p->proto != PROTO_DCCP && p->proto != PROTO_UDPLITE;
}

/* A flow of a pod to the outside that has no translation yet. */
static __always_inline int weft_masquerade(struct __sk_buff *ctx, struct weft_pkt *p,
					   struct weft_nat *to)
{
	__u32 ifindex = ctx->ifindex;
	struct weft_uplink_row *up = bpf_map_lookup_elem(&weft_uplink, &ifindex);
	union weft_ct_key key;
	struct weft_ct *ct;
	bool answered;

	if (!up || !(p->family == 4 ? up->ip4 : up->ip6[0]))
		return WEFT_AS_IS;
	if (p->frag == WEFT_FRAG_LATER) /* its first one was let pass as it is, or never came */
		return weft_frag_find(p) ? WEFT_DROP_FRAGMENT : WEFT_AS_IS;
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	/* Its flow was looked for before, and carried over, if need was. */
	weft_ct_aside(&key, p->family,
		      weft_leg_place(p, !ctx->ingress_ifindex, weft_proxy_passed(ctx)));
	ct = weft_ct_any(&key, p->family, &answered);
	if (ct && weft_keeps_source(p, ct, answered))
		return WEFT_AS_IS;
	if (!weft_can_leave(p))
		return WEFT_DROP_UNSUPPORTED_L4;
	if (ct)
		__sync_fetch_and_or((__u32 *)(void *)&ct->flags, WEFT_CT_NAT);
	if (p->family == 4)
		weft_memcpy(to->addr, &up->ip4, 4);
	else
		weft_memcpy(to->addr, up->ip6, 16);
	return WEFT_PASSED;
}

/*
 * A packet that is no pod's. Its answers would go to a pod if a translated flow has
 * its address and port towards the same remote, or if they are a pod's port and it is
 * UDP: then it gets another port, too.
 * Where it cannot, the pod's flow gives way, and keys that change nothing keep the
 * place: else a pod could have what the remote sends to the host's tunnels. For SCTP
 * only after a pod had the place: anybody can have the host answer from many ports.
 */
static __always_inline int weft_make_way(struct weft_pkt *p, struct weft_nat *to)
{
	union weft_nat_key key;
	bool taken;

	if (p->frag == WEFT_FRAG_LATER || !weft_can_leave(p))
		return WEFT_AS_IS;
	weft_memcpy(to->addr, &p->src, 16);
	to->port = p->sport;
	weft_nat_fill(&key, p->family, WEFT_NAT_IN, &p->dst, &p->src, p->dport, p->sport, p->proto);
	taken = weft_nat_find(&key, p->family);
	if (!weft_nat_ports(p->proto)) {
		if (taken)
			weft_nat_leave(&key, p->family);
		else if (p->proto == PROTO_SCTP || !weft_at_home(&p->src))
			return WEFT_AS_IS;
	} else if (weft_likely(!taken) && (p->proto != PROTO_UDP || !weft_port_taken(p, to))) {
		return WEFT_AS_IS;
	}
	to->flags = WEFT_NAT_ALONE;
	return WEFT_PASSED;
}

/*
 * Whether a packet that has no translation is to get one (WEFT_PASSED, and to has
 * the address), to go on as it is, or to be dropped.
 */
__noinline int weft_uplink_new(struct __sk_buff *ctx, struct weft_pkt *p, struct weft_nat *to)
{
	struct weft_ep_row *ep;
	struct weft_ip ip;

	if (!p || !to)
		return WEFT_AS_IS;
	if (!ctx->ingress_ifindex && !p->own_slot)
		return weft_make_way(p, to);
	weft_ip_get(p->family, &p->src, &ip);
	ep = ip.slot ? weft_ep_get(ip.slot) : NULL;
	if (!ep)
		return weft_make_way(p, to);
	if (ep->ifindex != ctx->ingress_ifindex && !p->own_slot)
		return WEFT_AS_IS; /* from elsewhere, with a pod's address */
	p->own_slot = ip.slot;
	p->ident[0] = ep->identity;
	weft_ip_get(p->family, &p->dst, &ip);
	p->ident[1] = p->peer = ip.identity;
	return !ip.slot && weft_is_outside(ip.identity) ? weft_masquerade(ctx, p, to) : WEFT_AS_IS;
}

/* Reads the packet; false: it is not for translation. */
static __always_inline bool weft_uplink_read(struct __sk_buff *ctx, struct weft_pkt *p,
					     const __u8 family)
{
	p->family = family;
	return (family == 4 ? weft_parse_ip4(ctx, p) : weft_parse_ip6(ctx, p)) == WEFT_PASSED;
}

/* Whether the translation changes nothing (see weft_make_way). */
static __always_inline bool weft_is_placeholder(const struct weft_pkt *p, const struct weft_nat *n)
{
	return (n->flags & WEFT_NAT_ALONE) && !weft_nat_ports(p->proto);
}

static __always_inline int weft_uplink_write(struct __sk_buff *ctx, struct weft_pkt *p,
					     struct weft_nat *n, const __u8 family)
{
	if (p->frag == WEFT_FRAG_FIRST)
		weft_frag_keep(p);
	weft_nat_seen(n, p->now);
	weft_nat_follow(n, p->tcp);
	if (weft_is_placeholder(p, n))
		return WEFT_PASSED;
	return weft_nat_write(ctx, p, n, family) ? WEFT_PASSED : WEFT_DROP_NAT_FULL;
}

/*
 * Enters a translation for a packet without one, if it is to have one: WEFT_PASSED: it
 * has; WEFT_AS_IS: it goes on as it is. Global, so that what it has on its stack ends
 * with it.
 */
__noinline int weft_out_new(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_nat to = {};
	int reason;

	if (!p)
		return WEFT_AS_IS;
	/* An open connection of the host's had its port since it began. */
	if (!ctx->ingress_ifindex && p->proto == PROTO_TCP &&
	    (p->tcp & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return WEFT_AS_IS;
	reason = weft_uplink_new(ctx, p, &to);
	if (reason)
		return reason;
	reason = weft_nat_source(ctx, p, &to);
	/* The host's own goes on without its place. */
	return reason && weft_is_placeholder(p, &to) ? WEFT_AS_IS : reason;
}

static __always_inline int weft_out_packet(struct __sk_buff *ctx, struct weft_pkt *p,
					   const __u8 family)
{
	struct weft_nat *n = NULL;
	__u32 from = ctx->ingress_ifindex;
	int reason;

	if (!weft_uplink_read(ctx, p, family))
		return WEFT_PASSED;
	reason = weft_proxy_out(ctx, p, from);
	if (reason > 0)
		return reason;
	/* To another node itself: routes lead past the tunnel. */
	if (weft_cfg.tunnel_port && !reason && p->node) {
		reason = weft_tunnel_send(ctx, p);
		return reason == WEFT_TOO_BIG ? WEFT_PASSED : reason;
	}
	/* The tunnel's own: its port towards a node is nobody's to translate. */
	if (weft_cfg.tunnel_port && !from && p->proto == PROTO_UDP &&
	    p->dport == bpf_htons(weft_cfg.tunnel_port))
		return WEFT_PASSED;
	if (weft_unlikely(p->kind == WEFT_ICMP_ERROR))
		return weft_nat_error(ctx, p, WEFT_NAT_OUT);
	if ((p->frag != WEFT_FRAG_LATER || !weft_frag_find(p)) &&
	    (!p->kind || p->kind == WEFT_ICMP_QUERY))
		n = weft_nat_of(p, family, WEFT_NAT_OUT);
	if (weft_likely(n)) {
		if (weft_unlikely(n->flags & WEFT_NAT_ASKED))
			weft_port_answered(p, n);
		return weft_uplink_write(ctx, p, n, family);
	}
	reason = weft_out_new(ctx, p);
	if (reason)
		return reason;
	n = weft_nat_of(p, family, WEFT_NAT_OUT);
	return n ? weft_uplink_write(ctx, p, n, family) : WEFT_DROP_NAT_FULL;
}

static __always_inline bool weft_is_outer(const union weft_addr *addr)
{
	struct weft_outer_key key;

	weft_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&weft_outer, &key);
}

/*
 * With a tunnel: marks its frames as believed, and lets no other packet bear a pod's
 * address. A frame that comes in fragments is not believed, and goes with its first:
 * the stack would take the mark of that for the whole, whoever sent the rest.
 */
__noinline int weft_uplink_tunnel(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ip ip;

	if (!p)
		return WEFT_DROP_MALFORMED;
	if (p->proto == PROTO_UDP && p->frag != WEFT_FRAG_LATER &&
	    p->dport == bpf_htons(weft_cfg.tunnel_port) && weft_at_home(&p->dst)) {
		if (p->frag)
			return WEFT_DROP_FRAGMENT;
		if (!weft_is_outer(&p->src))
			return WEFT_DROP_TUNNEL_PEER;
		ctx->mark = (ctx->mark & ~WEFT_MARK_MASK) | WEFT_MARK_TUNNEL;
		return WEFT_AS_IS;
	}
	weft_ip_get(p->family, &p->src, &ip);
	if (!weft_is_pod(&ip))
		return WEFT_PASSED;
	p->ident[0] = p->peer = ip.identity;
	return WEFT_DROP_BARE_POD;
}

/* Turns back what comes in for a translated flow, or for a port that is a pod's. */
static __always_inline int weft_in_turn(struct __sk_buff *ctx, struct weft_pkt *p,
					const __u8 family)
{
	struct weft_nat *n;
	int reason = 0;

	if (weft_unlikely(p->kind == WEFT_ICMP_ERROR))
		return weft_nat_error(ctx, p, WEFT_NAT_IN);
	if (p->kind && p->kind != WEFT_ICMP_REPLY)
		return WEFT_PASSED;
	if (p->frag == WEFT_FRAG_LATER && weft_frag_find(p))
		return WEFT_PASSED;
	n = weft_port_way(p, family, &reason);
	if (reason)
		return reason;
	if (n)
		reason = weft_uplink_write(ctx, p, n, family);
	else if (p->frag == WEFT_FRAG_FIRST)
		weft_frag_forget(p);
	if (!reason && p->proto == PROTO_TCP && !p->frag && weft_l7_active())
		return weft_proxy_in(ctx, p);
	return reason;
}

/* Apart, as stack is short. */
static __noinline int weft_in_back(struct __sk_buff *ctx, struct weft_pkt *p)
{
	return p->family == 4 ? weft_in_turn(ctx, p, 4) : weft_in_turn(ctx, p, 6);
}

static __always_inline int weft_in_packet(struct __sk_buff *ctx, struct weft_pkt *p,
					  const __u8 family)
{
	bool read = weft_uplink_read(ctx, p, family);
	int reason;

	if (weft_cfg.tunnel_port) {
		reason = weft_uplink_tunnel(ctx, p);
		if (reason)
			return reason;
	}
	if (!read)
		return WEFT_PASSED;
	reason = weft_past_come(ctx, p);
	return reason == WEFT_AS_IS ? weft_in_back(ctx, p) : reason;
}

/*
 * Whether the pod's device has seen already that the packet keeps its source. Only what
 * comes from such a device counts: there a mark from inside of the pod is gone.
 */
static __always_inline bool weft_known_inside(struct __sk_buff *ctx)
{
	__u16 slot;

	return (ctx->mark & WEFT_MARK_MASK) == WEFT_MARK_INSIDE &&
	       weft_ep_of(ctx->ingress_ifindex, &slot);
}

/* Gives WEFT_PASSED, WEFT_AS_IS or the reason to drop the packet. */
static __always_inline int weft_uplink_packet(struct __sk_buff *ctx, struct weft_pkt *p,
					      const __u8 way)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth;

	if (way == WEFT_EGRESS && weft_known_inside(ctx))
		return WEFT_PASSED;
	if (weft_unlikely(data + WEFT_LINEAR > end && (__u32)(end - data) < p->len)) {
		bpf_skb_pull_data(ctx, p->len < WEFT_LINEAR ? p->len : WEFT_LINEAR);
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	eth = data;
	if ((void *)(eth + 1) > end || ctx->vlan_present)
		return WEFT_PASSED;
	if (eth->proto == bpf_htons(ETH_IP4))
		return way == WEFT_EGRESS ? weft_out_packet(ctx, p, 4) : weft_in_packet(ctx, p, 4);
	if (eth->proto == bpf_htons(ETH_IP6))
		return way == WEFT_EGRESS ? weft_out_packet(ctx, p, 6) : weft_in_packet(ctx, p, 6);
	return WEFT_PASSED;
}
