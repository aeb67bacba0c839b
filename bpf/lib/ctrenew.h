/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A connection from the port of an older one to the same place, decided as that was: its
 * entry goes on. To replace it would touch a dozen lines of memory that are in no cache,
 * more than all else about a new connection.
 */
#pragma once

#include "ct.h"

/*
 * Whether an entry says what was decided now, but for what is counted. The VNI of
 * answers may be known already: with the same identity it is what was decided about.
 */
static __always_inline bool weft_ct_alike(const struct weft_pkt *p, const struct weft_ct *now,
					  const struct weft_ct *ct)
{
	__u8 flags = (now->flags ^ ct->flags) & ~WEFT_CT_CLOSING;

	return p->tcp && !flags && now->epoch[0] == ct->epoch[0] && now->epoch[1] == ct->epoch[1] &&
	       now->identity[0] == ct->identity[0] && now->identity[1] == ct->identity[1] &&
	       now->slot[0] == ct->slot[0] && now->slot[1] == ct->slot[1] &&
	       now->action == ct->action && now->ruleset == ct->ruleset &&
	       now->passed == ct->passed && now->rule[0] == ct->rule[0] &&
	       now->rule[1] == ct->rule[1] && now->service == ct->service &&
	       now->backend == ct->backend && now->node == ct->node &&
	       (!now->wire || now->wire == ct->wire);
}

/*
 * Begins the entry anew. Only what no decision hangs on is written: the element may be
 * another flow's by now, which then has wrong counters, as it may have by weft_ct_seen,
 * and counts as open. Marks that are set meanwhile stay.
 */
static __always_inline void weft_ct_renew(const struct weft_pkt *p, struct weft_ct *ct)
{
	__u32 *word = (__u32 *)(void *)&ct->flags;

	__sync_fetch_and_and(word, ~(WEFT_CT_CLOSING | 0xffU << 8 | 0xffU << 16));
	__sync_fetch_and_or(word, (__u32)p->tcp << 8);
	ct->packets[0] = p->segs;
	ct->bytes[0] = p->len;
	ct->packets[1] = 0;
	ct->bytes[1] = 0;
	ct->created = ct->reported = ct->seen = p->now;
}
