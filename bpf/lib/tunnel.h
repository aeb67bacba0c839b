/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tunnel between nodes, as far as any device or socket has to know of it. All
 * that is here is behind weft_cfg.tunnel_port, and gone from programs without one.
 */
#pragma once

#include "identity.h"

/*
 * Bits of skb->mark (the only ones that mean something to these programs). On what
 * comes in by an uplink: a tunnel frame from a node's address. On what goes to the
 * tunnel's device: it has its key. On what is for a socket of the proxy (WEFT_MARK_PROXY):
 * a rule of the host's routes has it delivered there. On what a pod sends and the stack
 * routes: it keeps its source (WEFT_MARK_INSIDE), which an uplink need not find out again.
 * On what the proxy sends to a server: it has passed the ruleset in the upper half.
 */
#define WEFT_MARK_MASK 0xf00
#define WEFT_MARK_TUNNEL 0x100
#define WEFT_MARK_PROXY 0x200
#define WEFT_MARK_INSIDE 0x400
#define WEFT_MARK_PASSED 0x800
#define WEFT_MARK_RULESET_SHIFT 16

#define WEFT_LOOPBACK 1 /* index of the loopback device, in any network namespace */

static __always_inline bool weft_tunnel_marked(const struct __sk_buff *ctx)
{
	return (ctx->mark & WEFT_MARK_MASK) == WEFT_MARK_TUNNEL;
}

static __always_inline struct weft_node_row *weft_node_get(__u32 number)
{
	struct weft_node_row *node = bpf_map_lookup_elem(&weft_node, &number);

	return node && node->used ? node : NULL;
}

/* The device of the tunnel, or NULL while there is none. */
static __always_inline struct weft_tunnel_row *weft_tunnel_get(void)
{
	__u32 zero = 0;
	struct weft_tunnel_row *t = bpf_map_lookup_elem(&weft_tunnel, &zero);

	return t && t->ifindex ? t : NULL;
}

static __always_inline bool weft_tunnel_is(__u32 ifindex)
{
	struct weft_tunnel_row *t = weft_tunnel_get();

	return t && t->ifindex == ifindex;
}

static __always_inline bool weft_is_node(__u32 identity)
{
	return identity == WEFT_ID_REMOTE_NODE || identity == WEFT_ID_KUBE_APISERVER;
}

/* Whether the address is a pod's: one of this node, or behind the tunnel and no node's. */
static __always_inline bool weft_is_pod(const struct weft_ip *ip)
{
	return ip->slot ||
	       (ip->node && !weft_is_node(ip->identity) && ip->identity != WEFT_ID_HOST);
}

static __always_inline bool weft_is_known(__u32 identity)
{
	return bpf_map_lookup_elem(&weft_known, &identity);
}

static __always_inline bool weft_at_home(const union weft_addr *addr)
{
	struct weft_home_key key;

	weft_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&weft_home, &key);
}

/* Whether an address is in the node's range of pods. */
static __always_inline bool weft_in_range(const struct weft_node_row *node, __u8 family,
					  const union weft_addr *addr)
{
	__u64 mask[2], net[2];

	if (family == 4)
		return node->bits4 && (addr->v4 & node->mask4) == node->ip4;
	weft_memcpy(mask, node->mask6, 16);
	weft_memcpy(net, node->ip6, 16);
	return node->bits6 &&
	       !(((addr->d[0] & mask[0]) ^ net[0]) | ((addr->d[1] & mask[1]) ^ net[1]));
}

/*
 * Whether a packet into a pod came the way that the decision about its flow was made
 * for: with the same VNI of the same node, or not out of the tunnel at all. Errors
 * come from anybody on the way. What was decided about an unknown VNI is decided
 * again once that is known.
 */
static __always_inline bool weft_same_way(const struct weft_pkt *p, const struct weft_ct *ct,
					  __u32 other, __u32 from)
{
	if (!p->wire)
		return !from || !ct->node || weft_tunnel_is(from);
	if (p->kind == WEFT_ICMP_ERROR)
		return true;
	if (ct->wire != p->wire || ct->node != p->node)
		return false;
	return other == p->ident[0] || (other == WEFT_ID_UNKNOWN && !weft_is_known(p->wire));
}

/*
 * A pod must not reach the tunnel itself, nor be reached by who claims to be it. What
 * goes to another pod's port of that number is inside of the tunnel.
 */
static __always_inline bool weft_is_tunnel_talk(const struct weft_pkt *p)
{
	bool sent = p->hook == WEFT_EGRESS;
	__be16 port = sent ? p->dport : p->sport;
	__u32 other = sent ? p->ident[1] : p->ident[0];

	if (weft_likely(p->proto != PROTO_UDP || port != bpf_htons(weft_cfg.tunnel_port)))
		return false;
	if (p->other_slot || (p->node && !weft_is_node(other)))
		return false;
	return other < WEFT_ID_CLUSTER_MIN || other >= WEFT_ID_LOCAL_MIN;
}

/*
 * Says where the tunnel's device sends the packet in hand, and as whose. No fragments:
 * who receives one cannot know whose the later ones are (RFC 7348, 4.3).
 */
__noinline int weft_tunnel_key(struct __sk_buff *ctx, __u32 number, __u32 vni)
{
	struct weft_node_row *node = weft_node_get(number);
	struct bpf_tunnel_key key;
	__u64 flags = BPF_F_DONT_FRAGMENT;
	__be32 v4;

	weft_memset(&key, 0, sizeof(key));
	if (!node || !number)
		return WEFT_DROP_TUNNEL_TARGET;
	key.tunnel_id = vni;
	key.tunnel_ttl = 64;
	if (node->family == 4) {
		weft_memcpy(&v4, node->outer, 4);
		key.remote_ipv4 = bpf_ntohl(v4);
		flags |= BPF_F_ZERO_CSUM_TX;
	} else if (node->family == 6) {
		weft_memcpy(key.remote_ipv6, node->outer, 16);
		flags |= BPF_F_TUNINFO_IPV6;
	} else {
		return WEFT_DROP_TUNNEL_TARGET;
	}
	return bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), flags) ? WEFT_DROP_REDIRECT
								     : WEFT_PASSED;
}
