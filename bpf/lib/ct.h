/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Conntrack, the way of an established packet: one look-up, the epochs, the
 * counters. Everything else is in ctnew.h.
 */
#pragma once

#include "tunnel.h"

/* Builds the key; true if the sender is side b. */
static __always_inline bool weft_ct_fill(union weft_ct_key *key, __u8 family,
					 const union weft_addr *src, const union weft_addr *dst,
					 __be16 sport, __be16 dport, __u8 proto)
{
	bool b;

	if (family == 4) {
		__u32 s = bpf_ntohl(src->v4), d = bpf_ntohl(dst->v4);

		b = s > d || (s == d && bpf_ntohs(sport) > bpf_ntohs(dport));
		key->v4.addr[0] = b ? dst->v4 : src->v4;
		key->v4.addr[1] = b ? src->v4 : dst->v4;
		key->v4.port[0] = b ? dport : sport;
		key->v4.port[1] = b ? sport : dport;
		key->v4.proto = proto;
		key->v4.pad[0] = key->v4.pad[1] = key->v4.beside = 0;
		return b;
	}
	__u64 s0 = bpf_be64_to_cpu(src->d[0]), d0 = bpf_be64_to_cpu(dst->d[0]);
	__u64 s1 = bpf_be64_to_cpu(src->d[1]), d1 = bpf_be64_to_cpu(dst->d[1]);

	b = s0 > d0 || (s0 == d0 && (s1 > d1 || (s1 == d1 && bpf_ntohs(sport) > bpf_ntohs(dport))));
	weft_memcpy(key->v6.addr[0], b ? dst : src, 16);
	weft_memcpy(key->v6.addr[1], b ? src : dst, 16);
	key->v6.port[0] = b ? dport : sport;
	key->v6.port[1] = b ? sport : dport;
	key->v6.proto = proto;
	key->v6.pad[0] = key->v6.pad[1] = key->v6.beside = 0;
	return b;
}

static __always_inline struct weft_ct *weft_ct_find(const union weft_ct_key *key, __u8 family)
{
	if (family == 4)
		return bpf_map_lookup_elem(&weft_ct4, &key->v4);
	return bpf_map_lookup_elem(&weft_ct6, &key->v6);
}

static __always_inline struct weft_ct *weft_ctn_find(const union weft_ct_key *key, __u8 family)
{
	if (family == 4)
		return bpf_map_lookup_elem(&weft_ctn4, &key->v4);
	return bpf_map_lookup_elem(&weft_ctn6, &key->v6);
}

static __always_inline bool weft_ct_reply(const struct weft_pkt *p, const struct weft_ct *ct)
{
	return p->src_b != !!(ct->flags & WEFT_CT_FROM_B);
}

/* Whether a flow is only known still: it is over, or was refused. */
static __always_inline bool weft_ct_ended(const struct weft_ct *ct)
{
	return ct->flags & (WEFT_CT_CLOSING | WEFT_CT_REFUSED);
}

/*
 * Whether the packet opens another flow with the key of this one: a SYN that is
 * not a retransmission, or an ICMP message that is neither the query that was
 * decided nor its answer.
 */
static __always_inline bool weft_ct_fresh(const struct weft_pkt *p, const struct weft_ct *ct,
					  bool reply)
{
	if (p->kind)
		return reply ? p->kind != WEFT_ICMP_REPLY : p->icmp != ct->icmp;
	if ((p->tcp & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return false;
	return reply || (ct->flags & WEFT_CT_CLOSING) || (ct->tcp[0] & TCP_ACK);
}

/*
 * Whether what was decided still stands: nothing about its local endpoints has
 * moved since, and the packet comes from where the identity says.
 */
static __always_inline bool weft_ct_holds(struct __sk_buff *ctx, struct weft_pkt *p,
					  const struct weft_ep_row *own_row, const __u8 hook,
					  const struct weft_ct *ct, bool reply)
{
	int own = (hook == WEFT_EGRESS) == reply, other = !own;
	__u32 from = hook == WEFT_INGRESS ? ctx->ingress_ifindex : 0;
	struct weft_ep_row *ep;

	if ((ct->flags & WEFT_CT_STALE) || ct->slot[own] != p->own_slot ||
	    ct->epoch[own] != own_row->epoch)
		return false;
	if (weft_cfg.tunnel_port && hook == WEFT_INGRESS &&
	    !weft_same_way(p, ct, ct->identity[other], from))
		return false;
	p->other_slot = ct->slot[other];
	if (!p->other_slot)
		return !from || ct->identity[other] != WEFT_ID_HOST;
	ep = weft_ep_get(p->other_slot);
	return ep && ep->epoch == ct->epoch[other] && (!from || from == ep->ifindex);
}

/*
 * The node to which the packet goes by the tunnel, straight from the pod. What answers
 * at a port of the host's goes by way of the stack, and is translated on its way out.
 */
static __always_inline __u16 weft_ct_node(const struct weft_pkt *p, const struct weft_ct *ct,
					  bool reply)
{
	bool ported = weft_unlikely(ct->flags & WEFT_CT_NAT) && reply && p->hook == WEFT_EGRESS;

	return ported ? 0 : ct->node;
}

/*
 * Counts the packet and follows TCP. The flags are one word to be changed by
 * atomic or, because sweeps mark flows at the same time: flags in the lowest
 * byte, then tcp[0], tcp[1].
 */
static __always_inline void weft_ct_seen(struct weft_pkt *p, struct weft_ct *ct, bool reply)
{
	__u32 *word = (__u32 *)(void *)&ct->flags;
	__u32 have, add;

	__sync_fetch_and_add(&ct->packets[reply], p->segs);
	__sync_fetch_and_add(&ct->bytes[reply], p->len);
	ct->seen = p->now;
	if (!p->tcp)
		return;
	have = *(volatile __u32 *)word;
	add = (__u32)p->tcp << (reply ? 16 : 8);
	if ((p->tcp & TCP_RST) ||
	    ((have | add) & (TCP_FIN << 8 | TCP_FIN << 16)) == (TCP_FIN << 8 | TCP_FIN << 16))
		add |= WEFT_CT_CLOSING;
	if ((have & add) != add)
		__sync_fetch_and_or(word, add);
}

_Static_assert(__builtin_offsetof(struct weft_ct, flags) % 4 == 0, "flags word");
_Static_assert(__builtin_offsetof(struct weft_ct, tcp) % 4 == 1, "flags word");
#ifndef WEFT_CT_ALT
_Static_assert(__builtin_offsetof(struct weft_ct, icmp) == 62, "first line of weft_ct");
#endif
