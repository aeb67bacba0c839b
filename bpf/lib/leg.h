/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * For a connection to a server the proxy may choose the port that its client has towards
 * the same server. Both legs then bear the same addresses and ports, and are told apart
 * by who sends: the proxy is the server of one and the client of the other. The leg that
 * came second lies *beside*, at the same key but for one byte.
 */
#pragma once

#include "ctold.h"
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

	if (!other || (other->flags & (WEFT_CT_CLOSING | WEFT_CT_REFUSED)))
		return;
	leg = weft_leg_of(other);
	/* Keys of translation have no place for a second flow. */
	if (leg != WEFT_LEG_UPSTREAM && (other->flags & WEFT_CT_NAT))
		leg = WEFT_LEG_NONE;
	p->rival = WEFT_RIVAL | leg;
}

/*
 * Whether the packet's flow lies beside, or is to (1), or at the first key (0). own: a
 * socket of the host's own sent the packet; passed: as weft_proxy_passed. Global, so that
 * the verifier looks at it once. What is still to be carried over from conntrack of another
 * layout it does not see: stack is short, and who asks fetches what lies at the first key.
 */
__noinline int weft_leg_place(struct weft_pkt *p, __u32 own, __u32 passed)
{
	union weft_ct_key key;
	struct weft_ct *one, *two;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	if (!p || p->proto != PROTO_TCP || !weft_l7_active())
		return 0;
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, PROTO_TCP);
	one = weft_ct_look(&key, p->family, &answered);
	if (one && !one->ruleset)
		return 0;
	weft_ct_aside(&key, p->family, 1);
	two = weft_ct_look(&key, p->family, &answered);
	if (!one || !weft_proxy_strange(p, one, own)) {
		if (one || !two || weft_proxy_strange(p, two, own)) {
			weft_leg_meet(p, two);
			return 0;
		}
		return 1;
	}
	if ((two && !weft_proxy_strange(p, two, own)) || weft_proxy_joins(p, one, passed)) {
		weft_leg_meet(p, one);
		return 1;
	}
	return 0;
}
