/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of a packet at the device of the tunnel. What comes out is believed only
 * if it came by an uplink from a node's address, and only as far as that node can
 * speak: for its pods with their identities, and for itself. That is looked at for
 * each packet. Who the sender is, its VNI tells, also where the address of the pod is
 * not known here yet.
 */
#pragma once

#include "proxyway.h"
#include "workload.h"

#define WEFT_FOR_STACK (-5) /* for the host itself, or for it to answer */

/* The node that sent the frame and its VNI, as the device has read them. */
__noinline int weft_overlay_sender(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_outer_key outer;
	struct bpf_tunnel_key key;
	__u32 *number;
	__be32 v4;

	weft_memset(&outer, 0, sizeof(outer));
	weft_memset(&key, 0, sizeof(key));
	if (!p || !weft_tunnel_marked(ctx))
		return WEFT_DROP_TUNNEL_PEER;
	if (!bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), 0)) {
		v4 = bpf_htonl(key.remote_ipv4);
		weft_memcpy(outer.addr, &v4, 4);
	} else if (!bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		weft_memcpy(outer.addr, key.remote_ipv6, 16);
	} else {
		return WEFT_DROP_TUNNEL_PEER;
	}
	number = bpf_map_lookup_elem(&weft_outer, &outer);
	if (!number || !*number)
		return WEFT_DROP_TUNNEL_PEER;
	p->node = *number;
	p->wire = p->ident[0] = p->peer = key.tunnel_id;
	return WEFT_PASSED;
}

/* Whether the node may send what it sent: from this address, with this VNI. */
__noinline int weft_overlay_source(struct weft_pkt *p)
{
	struct weft_node_row *node;
	struct weft_ip ip;

	if (!p)
		return WEFT_DROP_MALFORMED;
	node = weft_node_get(p->node);
	if (!node)
		return WEFT_DROP_TUNNEL_PEER;
	if (weft_in_range(node, p->family, &p->src))
		return p->wire >= WEFT_ID_CLUSTER_MIN && p->wire < WEFT_ID_LOCAL_MIN
			       ? WEFT_PASSED
			       : WEFT_DROP_TUNNEL_SOURCE;
	if (p->wire != WEFT_ID_REMOTE_NODE && p->wire != WEFT_ID_WORLD_IPV4 &&
	    p->wire != WEFT_ID_WORLD_IPV6)
		return WEFT_DROP_TUNNEL_SOURCE;
	weft_ip_get(p->family, &p->src, &ip);
	if (ip.node != p->node || ip.slot || !weft_is_node(ip.identity))
		return WEFT_DROP_TUNNEL_SOURCE;
	if (p->wire == WEFT_ID_REMOTE_NODE)
		p->ident[0] = ip.identity; /* it may be an API server */
	return WEFT_PASSED;
}

/* Whom a packet without an answered flow is for: a pod (p->own_slot) or the stack. */
__noinline int weft_overlay_target(struct weft_pkt *p)
{
	struct weft_node_row *self;
	struct weft_ep_row *ep;
	struct weft_ip ip;

	if (!p)
		return WEFT_DROP_MALFORMED;
	p->own_slot = 0;
	weft_ip_get(p->family, &p->dst, &ip);
	ep = ip.slot ? weft_ep_get(ip.slot) : NULL;
	if (ep) {
		p->own_slot = ip.slot;
		p->ident[1] = ep->identity;
		return WEFT_PASSED;
	}
	self = weft_node_get(0);
	if (ip.slot || ip.identity == WEFT_ID_HOST ||
	    (self && weft_in_range(self, p->family, &p->dst)))
		return WEFT_FOR_STACK;
	return WEFT_DROP_TUNNEL_TARGET;
}

/*
 * Translates a packet that has a key of that kind, as at an uplink; WEFT_AS_IS: it has
 * none. Apart, as stack is short.
 */
__noinline int weft_overlay_write(struct __sk_buff *ctx, struct weft_pkt *p, __u32 kind)
{
	struct weft_nat *n;
	bool written;

	if (!p)
		return WEFT_DROP_MALFORMED;
	n = p->family == 4 ? weft_nat_of(p, 4, kind) : weft_nat_of(p, 6, kind);
	if (!n)
		return WEFT_AS_IS;
	if (kind == WEFT_NAT_OUT)
		weft_port_answered(p, n);
	if (p->frag == WEFT_FRAG_FIRST)
		weft_frag_keep(p);
	weft_nat_seen(n, p->now);
	written = p->family == 4 ? weft_nat_write(ctx, p, n, 4) : weft_nat_write(ctx, p, n, 6);
	return written ? WEFT_PASSED : WEFT_DROP_NAT_FULL;
}

/*
 * Whom a packet to the host is for after all, as weft_overlay_target says it: it may be
 * for a port that is a pod's.
 */
__noinline int weft_overlay_port(struct __sk_buff *ctx, struct weft_pkt *p)
{
	int reason = 0;

	if (!p || !weft_ports_any() || (p->kind && p->kind != WEFT_ICMP_ERROR))
		return WEFT_FOR_STACK;
	if (p->kind) {
		reason = weft_nat_error(ctx, p, WEFT_NAT_IN);
		return reason ? reason : weft_overlay_target(p);
	}
	if (p->family == 4)
		weft_port_way(p, 4, &reason);
	else
		weft_port_way(p, 6, &reason);
	if (reason)
		return reason;
	reason = weft_overlay_write(ctx, p, WEFT_NAT_IN);
	if (reason)
		return reason < 0 ? WEFT_FOR_STACK : reason;
	p->ported = 1;
	return weft_overlay_target(p);
}

/*
 * What a pod answers at a port of the host's, on its way to another node. WEFT_PASSED:
 * it bears the host's address again; WEFT_AS_IS: it is no such packet.
 */
__noinline int weft_overlay_answer(struct __sk_buff *ctx, struct weft_pkt *p)
{
	int reason;

	if (!p || (!ctx->ingress_ifindex && !p->own_slot) || !weft_ports_any())
		return WEFT_AS_IS;
	if (p->kind == WEFT_ICMP_ERROR) {
		reason = weft_nat_error(ctx, p, WEFT_NAT_OUT);
		return reason ? reason : WEFT_AS_IS;
	}
	if (p->kind || (p->frag == WEFT_FRAG_LATER && weft_frag_find(p)))
		return WEFT_AS_IS;
	return weft_overlay_write(ctx, p, WEFT_NAT_OUT);
}

/* As weft_track, but whose the packet is, the flow says, or its destination. */
static __always_inline int weft_overlay_track(struct __sk_buff *ctx, struct weft_pkt *p,
					      const __u8 family)
{
	struct weft_ep_row *own;
	union weft_ct_key key;
	struct weft_ct *ct;
	bool reply;
	int reason;

	if (weft_unlikely(p->frag == WEFT_FRAG_LATER) && weft_frag_find(p))
		return WEFT_DROP_FRAGMENT;
	if (weft_likely(p->kind != WEFT_ICMP_ERROR)) {
		p->src_b =
			weft_ct_fill(&key, family, &p->src, &p->dst, p->sport, p->dport, p->proto);
		ct = weft_ct_find(&key, family);
		if (weft_likely(ct)) {
			reply = weft_ct_reply(p, ct);
			p->own_slot = ct->slot[reply ? 0 : 1];
			own = weft_ep_get(p->own_slot);
			if (weft_likely(own && !weft_ct_fresh(p, ct, reply) &&
					weft_ct_holds(ctx, p, own, WEFT_INGRESS, ct, reply) &&
					!weft_proxy_strange(p, ct, false))) {
				weft_ct_seen(p, ct, reply);
				p->answers = weft_unlikely(ct->flags & WEFT_CT_SERVICE) && reply;
				if (weft_unlikely(ct->ruleset))
					weft_proxy_see(ctx, p, ct, reply);
				return WEFT_PASSED;
			}
		}
	}
	reason = weft_overlay_target(p);
	if (reason == WEFT_FOR_STACK)
		reason = weft_overlay_port(ctx, p);
	if (reason)
		return reason;
	if (p->wire >= WEFT_ID_CLUSTER_MIN && !weft_is_known(p->wire))
		p->ident[0] = WEFT_ID_UNKNOWN;
	return p->kind == WEFT_ICMP_ERROR ? weft_icmp_error(ctx, p) : weft_ct_slow(ctx, p);
}

static __always_inline int weft_overlay_ip(struct __sk_buff *ctx, struct weft_pkt *p,
					   const __u8 family)
{
	int reason;

	p->family = family;
	reason = family == 4 ? weft_parse_ip4(ctx, p) : weft_parse_ip6(ctx, p);
	if (!reason)
		reason = weft_overlay_source(p);
	if (!reason)
		reason = weft_multicast(p, WEFT_INGRESS, false);
	if (!reason && family == 6 && p->kind == WEFT_ICMP_ND)
		reason = WEFT_DROP_UNSUPPORTED_L4; /* the tunnel is nobody's link */
	if (!reason)
		reason = weft_overlay_track(ctx, p, family);
	if (reason <= 0 && weft_unlikely(p->frag == WEFT_FRAG_FIRST))
		weft_frag_keep(p); /* also of what is for the stack */
	return reason;
}

/* The frame's protocol, with its headers in one piece; 0: it has none. */
static __always_inline __be16 weft_overlay_frame(struct __sk_buff *ctx, struct weft_pkt *p)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth;

	if (weft_unlikely(data + WEFT_LINEAR > end && (__u32)(end - data) < p->len)) {
		bpf_skb_pull_data(ctx, p->len < WEFT_LINEAR ? p->len : WEFT_LINEAR);
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	eth = data;
	return (void *)(eth + 1) > end || ctx->vlan_present ? 0 : eth->proto;
}

/* Gives WEFT_PASSED (for the pod in p->own_slot), WEFT_FOR_STACK or the reason to drop. */
static __always_inline int weft_overlay_in(struct __sk_buff *ctx, struct weft_pkt *p)
{
	int reason = weft_overlay_sender(ctx, p);

	ctx->mark = 0;
	if (reason)
		return reason;
	/* Its MACs are of another link; without this the stack takes it for others'. */
	bpf_skb_change_type(ctx, PACKET_HOST);
	switch (weft_overlay_frame(ctx, p)) {
	case bpf_htons(ETH_IP4):
		return weft_overlay_ip(ctx, p, 4);
	case bpf_htons(ETH_IP6):
		return weft_overlay_ip(ctx, p, 6);
	}
	return WEFT_DROP_UNSUPPORTED_L3;
}

/* As whom the stack sends a packet: the host itself, a pod, or anybody it forwards for. */
static __always_inline __u32 weft_overlay_vni(struct __sk_buff *ctx, struct weft_pkt *p)
{
	__u32 from = ctx->ingress_ifindex;
	struct weft_ep_row *ep;

	if (!from)
		return WEFT_ID_REMOTE_NODE;
	ep = weft_ep_of(from, &p->own_slot);
	if (ep && (p->family == 4 ? ep->ip4 == p->src.v4 : weft_same_ip6(&p->src, ep->ip6)))
		return ep->identity;
	return p->family == 4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
}

/*
 * A source MAC that no device has: the other end's may be the same as this one's, on
 * machines that were copied, and then it would take the frame for its own.
 */
static __always_inline bool weft_overlay_mac(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth = data;

	if ((void *)(eth + 1) > end)
		return false;
	weft_memset(eth->src, 0, 6);
	return true;
}

/* What the stack sends by the tunnel's device. */
static __always_inline int weft_overlay_out(struct __sk_buff *ctx, struct weft_pkt *p)
{
	__be16 proto = weft_overlay_frame(ctx, p);
	struct weft_ip ip;
	__u32 own;
	int reason;

	p->family = proto == bpf_htons(ETH_IP4) ? 4 : 6;
	if (proto == bpf_htons(ETH_IP4))
		reason = weft_parse_ip4(ctx, p);
	else if (proto == bpf_htons(ETH_IP6))
		reason = weft_parse_ip6(ctx, p);
	else
		reason = WEFT_DROP_UNSUPPORTED_L3;
	if (!reason)
		reason = weft_multicast(p, WEFT_INGRESS,
					false); /* of the host's, no word about it */
	if (reason)
		return reason;
	reason = weft_proxy_out(ctx, p, ctx->ingress_ifindex);
	if (reason > 0)
		return reason;
	own = p->ident[0]; /* of the pod for which the proxy sends it */
	reason = weft_overlay_answer(ctx, p);
	if (reason > 0)
		return reason;
	weft_ip_get(p->family, &p->dst, &ip);
	/* Whom the client called is the node. */
	if (!reason)
		p->ident[0] = WEFT_ID_REMOTE_NODE;
	else
		p->ident[0] = p->own_slot ? own : weft_overlay_vni(ctx, p);
	p->ident[1] = p->peer = ip.identity;
	if (!ip.node)
		return WEFT_DROP_TUNNEL_TARGET;
	reason = weft_tunnel_key(ctx, ip.node, p->ident[0]);
	if (reason)
		return reason;
	return weft_overlay_mac(ctx) ? WEFT_PASSED : WEFT_DROP_MALFORMED;
}
