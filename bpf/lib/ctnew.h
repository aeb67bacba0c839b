/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Conntrack, all but the established packet: new flows, unanswered ones, flows
 * to be decided again. Entries are written whole (an element that is replaced
 * cannot be another flow's by now, as one written in place could).
 */
#pragma once

#include "ctold.h"
#include "decide.h"
#include "ctrenew.h"
#include "direct.h"
#include "flow.h"
#include "hostport.h"
#include "leg.h"
#include "proxy.h"

/*
 * An entry and its key. Stack is short: where an IPv4 row has its padding, which
 * nobody reads, lies the key.
 */
struct weft_ct_elem {
	struct weft_ct ct;
	union weft_ct_key key;
};

_Static_assert(__builtin_offsetof(struct weft_ct, backend) ==
		       __builtin_offsetof(struct weft_ct, service) +
			       __builtin_offsetof(struct weft_names, backend),
	       "names in weft_ct");
_Static_assert(sizeof(struct weft_ct_elem) >= sizeof(struct weft_ct4_row), "IPv4 row");

static __always_inline long weft_ct_put(const struct weft_ct_elem *e, __u8 family)
{
	if (family == 4)
		return bpf_map_update_elem(&weft_ct4, &e->key.v4, e, BPF_ANY);
	return bpf_map_update_elem(&weft_ct6, &e->key.v6, e, BPF_ANY);
}

static __always_inline long weft_ctn_put(const union weft_ct_key *key, __u8 family,
					 const struct weft_ct *ct)
{
	if (family == 4)
		return bpf_map_update_elem(&weft_ctn4, &key->v4, ct, BPF_ANY);
	return bpf_map_update_elem(&weft_ctn6, &key->v6, ct, BPF_ANY);
}

static __always_inline long weft_ctn_del(const union weft_ct_key *key, __u8 family)
{
	if (family == 4)
		return bpf_map_delete_elem(&weft_ctn4, &key->v4);
	return bpf_map_delete_elem(&weft_ctn6, &key->v6);
}

/* Reports the end of a flow, once. */
static __always_inline void weft_ct_over(const union weft_ct_key *key, const struct weft_ct *ct,
					 __u8 family, __u32 ifindex)
{
	if (!(ct->flags & WEFT_CT_REFUSED))
		weft_event_ct(key, ct, (__u32)family << 8 | WEFT_FLOW_END, ifindex);
}

/* Makes room in a place of the ring: the flow it names goes, if still unanswered. */
static __always_inline void weft_pend_evict(struct weft_pend_row *row, struct weft_epstat_row *stat)
{
	const union weft_ct_key *old = (const void *)&row->key;
	struct weft_ct *ct;
	__u8 flags;

	if (!row->family)
		return;
	ct = weft_ctn_find(old, row->family);
	if (!ct)
		return;
	weft_ct_over(old, ct, row->family, 0);
	flags = ct->flags;
	if (weft_ctn_del(old, row->family))
		return;
	__sync_fetch_and_add(&stat->pend_evicted, 1);
	weft_nat_end(&row->key, (__u32)row->family << 8 | flags);
}

/* Takes the next place in the ring of the endpoint that answers for the flow. */
static __noinline int weft_pend_take(const union weft_ct_key *key, __u8 family, __u32 slot)
{
	struct weft_epstat_row *stat = bpf_map_lookup_elem(&weft_epstat, &slot);
	void *ring = bpf_map_lookup_elem(&weft_pend, &slot);
	struct weft_pend_row *row;
	__u32 place;

	if (!stat || !ring || !weft_cfg.pend_max)
		return WEFT_DROP_CT_FULL;
	place = __sync_fetch_and_add(&stat->pend_head, 1) % weft_cfg.pend_max;
	row = bpf_map_lookup_elem(ring, &place);
	if (!row)
		return WEFT_DROP_CT_FULL;
	weft_pend_evict(row, stat);
	weft_memcpy(__builtin_assume_aligned(&row->key, 8), key, sizeof(row->key));
	row->family = family;
	return WEFT_PASSED;
}

/* Identities that moved while they were used: decide again with the next packet. */
static __always_inline void weft_ct_recheck(const union weft_ct_key *key, __u8 family, __u32 gen,
					    bool answered)
{
	struct weft_ct *ct;

	if (weft_likely(weft_gen_get() == gen))
		return;
	ct = answered ? weft_ct_find(key, family) : weft_ctn_find(key, family);
	if (ct)
		__sync_fetch_and_or((__u32 *)(void *)&ct->flags, WEFT_CT_STALE);
}

static __always_inline void weft_ct_begin(struct weft_pkt *p, struct weft_ct *ct)
{
	weft_memset(ct, 0, sizeof(*ct));
	ct->created = p->now;
	ct->reported = p->now;
	ct->flags = p->src_b ? WEFT_CT_FROM_B : 0;
	if (p->called)
		ct->flags |= WEFT_CT_NAT | WEFT_CT_SERVICE;
	if (p->ported)
		ct->flags |= WEFT_CT_NAT;
	if (p->proto == PROTO_ICMP || p->proto == PROTO_ICMP6) {
		ct->flags |= WEFT_CT_ICMP;
		ct->icmp = p->icmp;
	}
}

/* As weft_ct_seen, for an entry that is not in a table yet. */
static __always_inline void weft_ct_note(const struct weft_pkt *p, struct weft_ct *ct, bool reply)
{
	if (reply) {
		ct->packets[1] += p->segs;
		ct->bytes[1] += p->len;
		ct->tcp[1] |= p->tcp;
	} else {
		ct->packets[0] += p->segs;
		ct->bytes[0] += p->len;
		ct->tcp[0] |= p->tcp;
	}
	ct->seen = p->now;
	if ((p->tcp & TCP_RST) || (ct->tcp[0] & ct->tcp[1] & TCP_FIN))
		ct->flags |= WEFT_CT_CLOSING;
}

/* What decided, in family << 8 form for weft_event_ct. */
static __always_inline __u32 weft_new_type(const struct weft_pkt *p, const struct weft_ct *ct)
{
	return (__u32)p->family << 8 |
	       (ct->action == WEFT_ACTION_AUDIT ? WEFT_FLOW_AUDIT : WEFT_FLOW_NEW);
}

/*
 * A refused flow ends, unless the packet may have come from someone else. It is
 * still known for as long as either side goes on with it: what the responder
 * sends is an answer then, and cannot open the flow again from its side.
 */
static __always_inline void weft_ct_refused(struct __sk_buff *ctx, const struct weft_pkt *p,
					    const union weft_ct_key *key, struct weft_ct *ct,
					    int reason)
{
	bool host = ct->identity[0] == WEFT_ID_HOST || ct->identity[1] == WEFT_ID_HOST;

	if (reason != WEFT_DROP_POLICY_DENY && reason != WEFT_DROP_POLICY_DEFAULT &&
	    reason != WEFT_DROP_NEEDS_PROXY)
		return;
	if (host && p->hook == WEFT_INGRESS && ctx->ingress_ifindex)
		return;
	ct->seen = p->now;
	weft_ct_over(key, ct, p->family, ctx->ifindex);
	__sync_fetch_and_or((__u32 *)(void *)&ct->flags, WEFT_CT_STALE | WEFT_CT_REFUSED);
}

/* Takes over what is known of a flow that is decided again. */
static __always_inline void weft_ct_again(const struct weft_pkt *p, struct weft_ct *row,
					  const struct weft_ct *ct)
{
	*row = *ct;
	row->flags &= ~(WEFT_CT_STALE | WEFT_CT_REFUSED);
	if (ct->flags & WEFT_CT_REFUSED) { /* its counters were reported with its end */
		row->packets[0] = row->packets[1] = 0;
		row->bytes[0] = row->bytes[1] = 0;
		row->created = row->reported = p->now;
	}
}

/* Enters a new flow among the unanswered, or renews one there. */
static __always_inline int weft_ct_wait(const struct weft_pkt *p, const struct weft_ct_elem *e,
					bool known, __u32 gen)
{
	int reason;

	if (!known) {
		reason = weft_pend_take(&e->key, p->family,
					e->ct.slot[0] ? e->ct.slot[0] : e->ct.slot[1]);
		if (reason)
			return reason;
	}
	if (weft_ctn_put(&e->key, p->family, &e->ct))
		return WEFT_DROP_CT_FULL;
	weft_ct_recheck(&e->key, p->family, gen, false);
	return WEFT_PASSED;
}

/*
 * Enters a flow among the answered, or renews one there. For a moment both tables
 * hold it, so that it is never in none. One that finds no room stays unanswered.
 */
static __always_inline int weft_ct_answer(const struct weft_pkt *p, const struct weft_ct_elem *e,
					  bool answered, __u32 gen)
{
	if (weft_ct_put(e, p->family))
		return answered ? WEFT_DROP_CT_FULL : WEFT_PASSED;
	if (!answered)
		weft_ctn_del(&e->key, p->family);
	weft_ct_recheck(&e->key, p->family, gen, true);
	return WEFT_PASSED;
}

/* A packet of a known flow whose decision may be old, or that opens another one. */
static __always_inline int weft_ct_judge(struct __sk_buff *ctx, struct weft_pkt *p,
					 struct weft_ct *ct, struct weft_ct_elem *e, bool answered)
{
	bool known = ct != NULL, against = known && weft_ct_reply(p, ct), reply = against;
	bool fresh = !known || weft_ct_fresh(p, ct, against);
	__u32 gen = weft_gen_get();
	int reason;

	p->strange = !known;
	if (fresh) {
		reply = false;
		p->ported = p->hook == WEFT_INGRESS && weft_port_came(p);
		weft_ct_begin(p, &e->ct);
		/* In place: stack is short. */
		weft_name(ctx, p, (struct weft_names *)&e->ct.service);
	} else {
		weft_ct_again(p, &e->ct, ct);
	}
	if (p->proto == PROTO_TCP)
		p->passed = fresh ? weft_proxy_passed(ctx) : ct->passed;
	reason = weft_decide(ctx, p, &e->ct, reply);
	if (p->proto != PROTO_TCP) /* the proxy has nothing else */
		e->ct.ruleset = e->ct.passed = 0;
	else if (!reason && weft_unlikely(e->ct.ruleset | e->ct.passed | p->passed | p->rival |
					  (known ? ct->ruleset : 0)))
		reason = weft_proxy_settle(p, ct, &e->ct, reply, fresh);
	if (weft_cfg.tunnel_port && !reason) {
		p->node = e->ct.node;
		if (weft_is_tunnel_talk(p))
			return WEFT_DROP_TUNNEL_PORT;
		/* From a node itself to a port of the host's: not out of the tunnel. */
		if (p->hook == WEFT_INGRESS && !p->wire && (e->ct.flags & WEFT_CT_NAT))
			e->ct.node = 0;
		p->node = weft_ct_node(p, &e->ct, reply);
	}
	if (reason) {
		/* A packet against the flow's direction must not be able to end it. */
		if (known && !(fresh && against))
			weft_ct_refused(ctx, p, &e->key, ct, reason);
		return reason;
	}
	/* What goes wrong from here on is nobody's policy. */
	p->dir = p->hook;
	p->rule = 0;
	fresh |= known && (ct->flags & WEFT_CT_REFUSED);
	p->answers = reply && (e->ct.flags & WEFT_CT_SERVICE);
	weft_ct_way(p, &e->ct, p->hook, reply);
	if (fresh && known)
		weft_ct_over(&e->key, ct, p->family, ctx->ifindex);
	if (fresh && answered && !against && !e->ct.ruleset && weft_ct_alike(p, &e->ct, ct)) {
		weft_ct_renew(p, ct);
		weft_ct_recheck(&e->key, p->family, gen, true);
		weft_event_ct(&e->key, ct, weft_new_type(p, ct), ctx->ifindex);
		return WEFT_PASSED;
	}
	weft_ct_note(p, &e->ct, reply);
	if (answered || (reply && !(p->tcp & TCP_RST)) || weft_proxy_acked(ctx, p, &e->ct))
		reason = weft_ct_answer(p, e, answered, gen);
	else
		reason = weft_ct_wait(p, e, known, gen);
	if (fresh && !reason)
		weft_event_ct(&e->key, &e->ct, weft_new_type(p, &e->ct), ctx->ifindex);
	if (weft_unlikely(e->ct.ruleset))
		weft_proxy_see(ctx, p, &e->ct, reply);
	return reason;
}

/* Counts a packet of a flow that stands; its first answer moves it to the answered. */
static __always_inline int weft_ct_stands(struct __sk_buff *ctx, struct weft_pkt *p,
					  struct weft_ct *ct, struct weft_ct_elem *e, bool reply,
					  bool answered)
{
	__u32 gen = weft_gen_get(); /* before the copy, so that no mark set meanwhile is lost */

	if (weft_unlikely(ct->ruleset)) {
		if (weft_proxy_opens(p) && !(ct->flags & WEFT_CT_UPSTREAM) &&
		    !weft_proxy_ready(ct->ruleset, p->family))
			return WEFT_DROP_PROXY_NOT_READY;
		/* What is left of the other leg, which had the tuple before, must not end this. */
		if (weft_proxy_strange(p, ct, !ctx->ingress_ifindex)) {
			weft_proxy_see(ctx, p, ct, reply);
			return WEFT_PASSED;
		}
	}
	weft_ct_goes(ctx, p, ct, p->hook, reply);
	if (answered || (!reply && !weft_proxy_acked(ctx, p, ct)) || (p->tcp & TCP_RST))
		return WEFT_PASSED;
	e->ct = *ct;
	return weft_ct_answer(p, e, false, gen);
}

/*
 * Whose a packet is that the stack sends into a pod. Out of the tunnel it has no VNI
 * any more: its flow says it, which was entered there. From elsewhere it must not
 * bear the address of a pod of another node.
 */
__noinline int weft_wire_recall(struct __sk_buff *ctx, struct weft_pkt *p)
{
	__u32 from = ctx->ingress_ifindex;
	union weft_ct_key key;
	struct weft_ip ip;
	struct weft_ct *ct;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	if (!p || !from)
		return WEFT_PASSED;
	if (!weft_tunnel_is(from)) {
		weft_ip_get(p->family, &p->src, &ip);
		return !ip.slot && weft_is_pod(&ip) ? WEFT_DROP_BARE_POD : WEFT_PASSED;
	}
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_leg_find(p, &key, false, 0, &answered);
	p->wire = p->ident[0] = WEFT_ID_UNKNOWN;
	if (ct && ct->wire) {
		p->wire = ct->wire;
		p->node = ct->node;
		p->ident[0] = ct->identity[weft_ct_reply(p, ct)];
	}
	return WEFT_PASSED;
}

/*
 * For a packet without an answered flow, or with one that no longer stands. Gives
 * WEFT_PASSED, and then the flow is in conntrack, or the reason to drop the packet.
 */
__noinline int weft_ct_slow(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ct_elem e;
	struct weft_ep_row *own;
	struct weft_ct *ct;
	bool answered = false, reply;

	weft_memset(&e, 0, sizeof(e));
	if (!p)
		return WEFT_DROP_MALFORMED;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	p->src_b = weft_ct_fill(&e.key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_leg_find(p, &e.key, !ctx->ingress_ifindex, weft_proxy_passed(ctx), &answered);
	if (!ct && p->frag == WEFT_FRAG_LATER &&
	    (p->proto == PROTO_ICMP || p->proto == PROTO_ICMP6))
		return WEFT_DROP_FRAGMENT; /* its type is not known any more */
	/*
	 * An answered one was looked at before, unless it was fetched or translated since, or
	 * is a leg's.
	 */
	if (ct && (!answered || p->called || p->ported || weft_cfg.old_ct || ct->ruleset)) {
		reply = weft_ct_reply(p, ct);
		if (!weft_ct_fresh(p, ct, reply) && weft_ct_holds(ctx, p, own, p->hook, ct, reply))
			return weft_ct_stands(ctx, p, ct, &e, reply, answered);
	}
	return weft_ct_judge(ctx, p, ct, &e, answered);
}
