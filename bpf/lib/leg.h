/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For a connection to a server the proxy may choose the port that its client has towards
 * the same server. Both legs then bear the same addresses and ports, and are told apart
 * by who sends: the proxy is the server of one and the client of the other. So what the
 * proxy opens lies *beside*, at the same key but for one byte, whether there is a flow at
 * the first key or not: two that begin at the same time do not meet.
 */
#pragma once

#include "ctold.h"
#include "direct.h"
#include "proxy.h"

static __always_inline void weft_ct_aside(union weft_ct_key *key, __u8 family, __u8 beside)
{
	if (family == 4)
		key->v4.beside = beside;
	else
		key->v6.beside = beside;
}

/* Notes that another flow has the packet's tuple, if it is there and has not ended. */
static __always_inline void weft_leg_meet(struct weft_pkt *p, const struct weft_ct *other)
{
	__u8 leg;

	if (!other || weft_ct_ended(other))
		return;
	leg = weft_leg_of(other);
	/* Keys of translation have no place for a second flow. */
	if (leg != WEFT_LEG_UPSTREAM && (other->flags & WEFT_CT_NAT))
		leg = WEFT_LEG_NONE;
	p->rival = WEFT_RIVAL | leg;
	p->rival_has = other->ruleset;
}

/* What is done with each packet of a flow whose decision stands. */
static __always_inline void weft_ct_goes(struct __sk_buff *ctx, struct weft_pkt *p,
					 struct weft_ct *ct, __u8 hook, bool reply)
{
	weft_ct_seen(p, ct, reply);
	if (weft_cfg.tunnel_port)
		p->node = weft_ct_node(p, ct, reply);
	weft_ct_way(p, ct, hook, reply);
	p->answers = weft_unlikely(ct->flags & WEFT_CT_SERVICE) && reply;
	if (weft_unlikely(ct->ruleset))
		weft_proxy_see(ctx, p, ct, reply);
}

/* Whether the packet's flow is not the one at the first key, but that beside it, if any. */
static __always_inline bool weft_leg_past(const struct weft_pkt *p, const struct weft_ct *one,
					  const struct weft_ct *two, bool own)
{
	if (!two || weft_proxy_strange(p, two, own))
		return false;
	return !one || weft_proxy_strange(p, one, own) ||
	       (weft_ct_ended(one) && !weft_ct_ended(two));
}

/*
 * Whether the packet's flow lies beside, or is to (1), or at the first key (0). own: a
 * socket of the host's own sent the packet; passed: as weft_proxy_passed. Global, so that
 * the verifier looks at it once.
 */
__noinline int weft_leg_place(struct weft_pkt *p, __u32 own, __u32 passed)
{
	struct weft_ct *one, *two;
	union weft_ct_key key;
	bool answered, beside;

	weft_memset(&key, 0, sizeof(key));
	if (!p || p->proto != PROTO_TCP || !weft_l7_active())
		return 0;
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, PROTO_TCP);
	one = weft_ct_look(&key, p->family, &answered);
	weft_ct_aside(&key, p->family, 1);
	two = weft_ct_look(&key, p->family, &answered);
	beside = passed || weft_leg_past(p, one, two, own);
	weft_leg_meet(p, beside ? one : two);
	return beside;
}

/* Carries over what conntrack of another layout has of both legs. Apart, as stack is short. */
static __noinline void weft_leg_fetch(const struct weft_pkt *p)
{
	union weft_ct_key key;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	for (int beside = 0; beside < 2; beside++) {
		weft_ct_aside(&key, p->family, beside);
		weft_ct_any(&key, p->family, &answered);
	}
}

/* The flow of a packet, whose key is filled in, or NULL; arguments as of weft_leg_place. */
static __always_inline struct weft_ct *weft_leg_find(struct weft_pkt *p, union weft_ct_key *key,
						     __u32 own, __u32 passed, bool *answered)
{
	if (weft_cfg.old_ct)
		weft_leg_fetch(p);
	weft_ct_aside(key, p->family, weft_leg_place(p, own, passed));
	return weft_ct_look(key, p->family, answered);
}

/*
 * A packet that is none of one, the answered flow at the first key (NULL: there is none):
 * WEFT_PASSED if the flow beside has it and its decision stands, as of most packets between
 * the proxy and servers; else WEFT_UNDECIDED. sent: the proxy says that it sent it, so that no
 * other key need be looked at. Apart, as stack is short.
 */
static __noinline int weft_leg_known(struct __sk_buff *ctx, struct weft_pkt *p,
				     const struct weft_ct *one, bool sent)
{
	bool own = !ctx->ingress_ifindex, reply;
	struct weft_ct *two;
	struct weft_ep_row *row;
	union weft_ct_key key;

	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	if (!one && !sent)
		one = weft_ctn_find(&key, p->family);
	weft_ct_aside(&key, p->family, 1);
	two = weft_ct_find(&key, p->family);
	row = weft_ep_get(p->own_slot);
	if (!row || !weft_leg_past(p, one, two, own))
		return WEFT_UNDECIDED;
	reply = weft_ct_reply(p, two);
	if (weft_ct_fresh(p, two, reply) || !weft_ct_holds(ctx, p, row, p->hook, two, reply))
		return WEFT_UNDECIDED;
	weft_ct_goes(ctx, p, two, p->hook, reply);
	return WEFT_PASSED;
}

/* Whether a proxy's socket says that it sent the packet; see weft_proxy_passed for proof. */
static __always_inline bool weft_leg_sent(const struct __sk_buff *ctx, const __u8 hook)
{
	return hook == WEFT_INGRESS && !ctx->ingress_ifindex &&
	       (ctx->mark & WEFT_MARK_MASK) == WEFT_MARK_PASSED;
}
