/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an endpoint's policy says about a flow in one direction. */
#pragma once

#include "packet.h"

/* Of two entries the one of higher precedence counts; at a tie the peer's. */
static __always_inline struct weft_pol *weft_pol_get(void *set, __u8 dir, __u32 peer, __u8 proto,
						     __be16 port)
{
	struct weft_pol_key key = {
		.prefixlen = WEFT_POL_BITS_PORT,
		.identity = peer,
		.dir = dir,
		.proto = proto,
		.port = port,
	};
	struct weft_pol *own, *any;

	own = bpf_map_lookup_elem(set, &key);
	key.identity = WEFT_ID_NONE;
	any = bpf_map_lookup_elem(set, &key);
	if (!own)
		return any;
	return any && any->precedence > own->precedence ? any : own;
}

/*
 * Asks the policy of ep about its peer. What it says is put into ct (the ruleset of
 * egress in ruleset, that of ingress in passed, see weft_proxy_leg); a set that is
 * named but not there refuses everything.
 */
static __always_inline int weft_pol_ask(struct weft_pkt *p, const struct weft_ep_row *ep, __u8 dir,
					__u32 peer, __be16 port, struct weft_ct *ct)
{
	__u16 rules = dir == WEFT_EGRESS ? WEFT_EP_RULES_EGRESS : WEFT_EP_RULES_INGRESS;
	__u16 enforce = dir == WEFT_EGRESS ? WEFT_EP_ENFORCE_EGRESS : WEFT_EP_ENFORCE_INGRESS;
	struct weft_pol *pol = NULL;
	__u32 index = ep->polset;
	void *set;

	p->dir = dir;
	p->peer = peer;
	p->rule = 0;
	if (ep->flags & rules) {
		set = bpf_map_lookup_elem(&weft_polsets, &index);
		if (!set)
			return WEFT_DROP_POLICY_DEFAULT;
		pol = weft_pol_get(set, dir, peer, p->proto, port);
	}
	if (!pol || pol->action == WEFT_ACTION_NONE)
		return ep->flags & enforce ? WEFT_DROP_POLICY_DEFAULT : WEFT_PASSED;
	p->rule = pol->rule;
	if (pol->action == WEFT_ACTION_DENY)
		return WEFT_DROP_POLICY_DENY;
	if (dir == WEFT_EGRESS)
		ct->rule[0] = pol->rule;
	else
		ct->rule[1] = pol->rule;
	if (pol->action == WEFT_ACTION_AUDIT)
		ct->action = WEFT_ACTION_AUDIT;
	if (dir == WEFT_EGRESS)
		ct->ruleset = pol->ruleset;
	else
		ct->passed = pol->ruleset;
	return WEFT_PASSED;
}
