/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that the proxy has: which leg of a connection they are, and which of their
 * packets are for its sockets. Who may be reached was decided before (decide.h).
 *
 *   client ──downstream──► proxy ──upstream──► server
 *
 * Both legs bear the client's address and the server's, and differ in the client's
 * port. A packet for the proxy bears no address of the host's: its mark has it
 * delivered to the host's sockets.
 */
#pragma once

#include "ct.h"

#define WEFT_CGROUP_DEPTH 16 /* to which a proxy's group is looked for */

static __always_inline struct weft_l7_row *weft_l7_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weft_l7, &zero);
}

static __always_inline bool weft_l7_active(void)
{
	struct weft_l7_row *l7 = weft_l7_get();

	return l7 && l7->active;
}

/* Whether there is a proxy. */
static __always_inline bool weft_l7_known(const struct weft_l7_row *l7)
{
	return l7->cgroup[0] | l7->cgroup[1];
}

/*
 * Which ruleset a proxy enforced before it opened the flow of this packet; 0: it is no
 * proxy's. CAP_NET_RAW is enough to set a mark, so that only those count that sockets of
 * a proxy's own group set.
 */
__noinline int weft_proxy_passed(struct __sk_buff *ctx)
{
	struct weft_l7_row *l7 = weft_l7_get();
	__u64 group;

	if (!l7 || !weft_l7_known(l7) || ctx->ingress_ifindex ||
	    (ctx->mark & WEFT_MARK_MASK) != WEFT_MARK_PASSED)
		return 0;
	for (int i = 1; i <= WEFT_CGROUP_DEPTH; i++) {
		group = bpf_skb_ancestor_cgroup_id(ctx, i);
		if (!group)
			break;
		if (group == l7->cgroup[0] || group == l7->cgroup[1])
			return ctx->mark >> WEFT_MARK_RULESET_SHIFT;
	}
	return 0;
}

static __always_inline bool weft_ruleset_covers(__u32 one, __u32 other)
{
	struct weft_ruleset_row *row = bpf_map_lookup_elem(&weft_ruleset, &one);

	return one == other || (row && (row->as == other || row->before == other));
}

/* Whether who has passed one ruleset has passed the other as well. */
__noinline int weft_ruleset_satisfies(__u32 one, __u32 other)
{
	struct weft_ruleset_row *row = bpf_map_lookup_elem(&weft_ruleset, &one);

	if (!one || !other || !row)
		return 0;
	if (!row->first)
		return weft_ruleset_covers(one, other);
	return weft_ruleset_covers(row->first, other) || weft_ruleset_covers(row->then, other);
}

/* Whether it is a pair of two others. */
static __always_inline bool weft_ruleset_paired(__u32 ruleset)
{
	struct weft_ruleset_row *row = bpf_map_lookup_elem(&weft_ruleset, &ruleset);

	return row && row->first;
}

/*
 * What is still to be passed of two rulesets, that of egress before that of ingress; 0:
 * nothing. Who has passed the latter came from the last stage, unless it is one of a
 * pair's, which is passed instead of both.
 */
__noinline int weft_ruleset_next(__u32 passed, __u32 first, __u32 then)
{
	if (weft_ruleset_satisfies(passed, then) &&
	    (!first || !weft_ruleset_paired(passed) || weft_ruleset_satisfies(passed, first)))
		return 0;
	if (weft_ruleset_satisfies(passed, first))
		return then;
	return first ? first : then;
}

/*
 * A socket that listens for the ruleset, to be released; the preferred block's first. A
 * block without a group has none.
 */
static __always_inline struct bpf_sock *weft_proxy_find(__u32 ruleset, __u32 family)
{
	struct weft_l7_row *l7 = weft_l7_get();
	struct weft_proxy_key key = {.family = family, .ruleset = ruleset};
	struct bpf_sock *sk;
	__u8 prefer;

	/* Without these nobody would lead the connection to the socket. */
	if (!l7 || !l7->active)
		return NULL;
	prefer = l7->prefer & 1;
	for (int i = 0; i < WEFT_PROXY_BLOCKS * WEFT_PROXY_PLACES; i++) {
		key.block = (i / WEFT_PROXY_PLACES) ^ prefer;
		key.place = i % WEFT_PROXY_PLACES;
		if (!l7->cgroup[key.block & 1])
			continue;
		sk = bpf_map_lookup_elem(&weft_proxy, &key);
		if (sk)
			return sk;
	}
	return NULL;
}

/* Whether the proxy takes new connections of the ruleset. */
__noinline int weft_proxy_ready(__u32 ruleset, __u32 family)
{
	struct bpf_sock *sk = weft_proxy_find(ruleset, family);

	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* The pair of two rulesets, if there is one and the proxy takes connections of it; else 0. */
__noinline int weft_proxy_both(__u32 first, __u32 then, __u32 family)
{
	struct weft_both_key key = {.first = first, .then = then};
	__u32 *pair;

	if (!first || !then)
		return 0;
	pair = bpf_map_lookup_elem(&weft_both, &key);
	return pair && weft_proxy_ready(*pair, family) ? *pair : 0;
}

static __always_inline __u8 weft_leg_of(const struct weft_ct *ct)
{
	if (!ct->ruleset)
		return WEFT_LEG_NONE;
	if (ct->flags & WEFT_CT_UPSTREAM)
		return WEFT_LEG_UPSTREAM;
	return ct->passed ? WEFT_LEG_BETWEEN : WEFT_LEG_DOWNSTREAM;
}

/* Whether a packet of the flow in that direction is for somebody else than the proxy. */
static __always_inline bool weft_proxy_leaves(const struct weft_ct *ct, bool reply)
{
	if (ct->flags & WEFT_CT_UPSTREAM)
		return !reply;
	return reply && !ct->passed;
}

/* Whether the proxy sends the packets of the flow in that direction. */
static __always_inline bool weft_proxy_sent(const struct weft_ct *ct, bool reply)
{
	return ct->flags & WEFT_CT_UPSTREAM ? !reply : reply || ct->passed;
}

/*
 * Whether a packet cannot be of the flow whose addresses and ports it bears, by who sent
 * it (own: a socket of the host's own). The host's own clients send as the proxy does, and
 * what the proxy answers to them passes no device.
 */
static __always_inline bool weft_proxy_strange(const struct weft_pkt *p, const struct weft_ct *ct,
					       bool own)
{
	bool reply = weft_ct_reply(p, ct);

	return ct->ruleset && (reply || ct->identity[0] != WEFT_ID_HOST) &&
	       own != weft_proxy_sent(ct, reply);
}

/*
 * Notes whether the packet is to be delivered to the proxy. Into a pod goes only what
 * the proxy's sockets send there: all else would pass it by. Apart, as stack is short.
 */
static __noinline void weft_proxy_see(struct __sk_buff *ctx, struct weft_pkt *p,
				      const struct weft_ct *ct, bool reply)
{
	p->proxy =
		!(p->hook == WEFT_INGRESS && !ctx->ingress_ifindex && weft_proxy_leaves(ct, reply));
}

/* Whether a packet asks for a connection. */
static __always_inline bool weft_proxy_opens(const struct weft_pkt *p)
{
	return p->proto == PROTO_TCP && (p->tcp & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/*
 * Makes the decided flow a leg. The policies asked for a ruleset each, that of egress
 * (in ruleset) before that of ingress (in passed). A flow that begins gets the pair of
 * both; one that is open stays with what it has, see weft_proxy_keep.
 */
static __always_inline void weft_proxy_leg(const struct weft_pkt *p, struct weft_ct *ct,
					   bool begins)
{
	__u16 next = weft_ruleset_next(p->passed, ct->ruleset, ct->passed), pair = 0;

	if (begins && !p->passed)
		pair = weft_proxy_both(ct->ruleset, ct->passed, p->family);
	if (pair)
		next = pair;
	ct->flags &= ~WEFT_CT_UPSTREAM;
	ct->passed = p->passed;
	ct->ruleset = next;
	if (p->passed && !next) {
		ct->ruleset = p->passed;
		ct->flags |= WEFT_CT_UPSTREAM;
	}
}

/*
 * An open flow that was decided again stays what it was, or ends: no open connection
 * can move into the proxy, out of it, or to another of its listeners. A pair's must still
 * have all passed that is asked (first and then): no other leg would make up for it.
 */
static __always_inline int weft_proxy_keep(const struct weft_ct *was, struct weft_ct *now,
					   __u32 first, __u32 then)
{
	if (weft_likely(was->ruleset == now->ruleset &&
			!((was->flags ^ now->flags) & WEFT_CT_UPSTREAM)))
		return WEFT_PASSED;
	if (!was->ruleset || (was->flags & WEFT_CT_UPSTREAM))
		return WEFT_DROP_NEEDS_PROXY;
	if (weft_ruleset_paired(was->ruleset)) {
		if (weft_ruleset_next(was->ruleset, first, then))
			return WEFT_DROP_NEEDS_PROXY;
	} else if (now->flags & WEFT_CT_UPSTREAM) /* nothing is left to be passed */
		now->flags &= ~WEFT_CT_UPSTREAM;
	else if (now->ruleset && !weft_ruleset_satisfies(was->ruleset, now->ruleset))
		return WEFT_DROP_NEEDS_PROXY;
	now->ruleset = was->ruleset;
	return WEFT_PASSED;
}

/*
 * Whether the flow may be beside the other one that has its tuple: one must end in the
 * proxy and the other begin there.
 */
static __always_inline bool weft_proxy_shares(const struct weft_pkt *p, const struct weft_ct *now)
{
	__u8 leg = weft_leg_of(now);

	if (now->flags & WEFT_CT_NAT)
		return false;
	return (leg == WEFT_LEG_DOWNSTREAM && p->rival == (WEFT_RIVAL | WEFT_LEG_UPSTREAM)) ||
	       (leg == WEFT_LEG_UPSTREAM && p->rival == (WEFT_RIVAL | WEFT_LEG_DOWNSTREAM));
}

/*
 * As weft_proxy_shares. But a client's connection that needs no proxy any more cannot have
 * the tuple of one that the proxy still has with the server, and its sender would take no
 * other port. So it comes into the proxy by that one's ruleset, which says what is asked of
 * such connections now. Apart, as stack is short.
 */
static __noinline bool weft_proxy_joins(const struct weft_pkt *p, struct weft_ct *now)
{
	if (!now->ruleset && weft_proxy_opens(p) && p->rival == (WEFT_RIVAL | WEFT_LEG_UPSTREAM) &&
	    weft_proxy_ready(p->rival_has, p->family))
		now->ruleset = p->rival_has;
	return weft_proxy_shares(p, now);
}

/*
 * Whether the decided flow may be, given what there was with its key (NULL: nothing).
 * fresh: the packet opens another flow than that. Apart, as stack is short.
 */
static __noinline int weft_proxy_settle(const struct weft_pkt *p, const struct weft_ct *was,
					struct weft_ct *now, bool reply, bool fresh)
{
	bool opens = !reply && weft_proxy_opens(p);
	__u16 first = now->ruleset, then = now->passed;

	weft_proxy_leg(p, now, fresh || opens);
	if (fresh && p->rival && !weft_proxy_joins(p, now))
		return WEFT_DROP_PROXY_CLASH;
	if (was && !fresh && !opens)
		return weft_proxy_keep(was, now, first, then);
	if (opens && now->ruleset && !(now->flags & WEFT_CT_UPSTREAM) &&
	    !weft_proxy_ready(now->ruleset, p->family))
		return WEFT_DROP_PROXY_NOT_READY;
	return WEFT_PASSED;
}

/*
 * The host's own client is answered over the loopback device, where nobody looks: it
 * shows by its acknowledgement that it was.
 */
static __always_inline bool weft_proxy_acked(struct __sk_buff *ctx, const struct weft_pkt *p,
					     const struct weft_ct *ct)
{
	return ct->ruleset && !(ct->flags & WEFT_CT_UPSTREAM) && p->hook == WEFT_INGRESS &&
	       !ctx->ingress_ifindex && ct->identity[0] == WEFT_ID_HOST &&
	       (p->tcp & (TCP_ACK | TCP_RST)) == TCP_ACK;
}

/*
 * Delivers a packet that leaves by a device to the host's sockets instead. The stack
 * takes it for one that came in by the loopback device. Gives the verdict.
 */
static __always_inline int weft_proxy_turn(struct __sk_buff *ctx, __u32 mark)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth = data;

	if ((void *)(eth + 1) > end)
		return TC_ACT_SHOT;
	weft_memset(eth->dst, 0, 6);
	ctx->mark = mark;
	return bpf_redirect(WEFT_LOOPBACK, BPF_F_INGRESS);
}
