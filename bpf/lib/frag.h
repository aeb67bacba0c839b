/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments. The first has the ports; they are kept for the later ones, once it
 * was let pass. A later one that comes before its first is dropped.
 */
#pragma once

#include "packet.h"

static __always_inline void weft_frag_fill(const struct weft_pkt *p, struct weft_frag_key *key)
{
	weft_memset(key, 0, sizeof(*key));
	weft_memcpy(key->addr[0], &p->src, 16);
	weft_memcpy(key->addr[1], &p->dst, 16);
	key->id = p->frag_id;
	key->proto = p->proto;
	key->family = p->family;
}

__noinline int weft_frag_find(struct weft_pkt *p)
{
	struct weft_frag_key key;
	struct weft_frag_row *row;

	if (!p)
		return WEFT_DROP_FRAGMENT;

	weft_frag_fill(p, &key);
	row = bpf_map_lookup_elem(&weft_frag, &key);
	if (!row)
		return WEFT_DROP_FRAGMENT;
	p->sport = row->port[0];
	p->dport = row->port[1];
	return WEFT_PASSED;
}

__noinline int weft_frag_keep(struct weft_pkt *p)
{
	struct weft_frag_key key;
	struct weft_frag_row row;

	if (!p)
		return 0;
	row.port[0] = p->sport;
	row.port[1] = p->dport;
	weft_frag_fill(p, &key);
	bpf_map_update_elem(&weft_frag, &key, &row, BPF_ANY);
	return 0;
}

/* A datagram that goes on untouched must not be taken for an older one of its number. */
__noinline int weft_frag_forget(struct weft_pkt *p)
{
	struct weft_frag_key key;

	if (!p)
		return 0;
	weft_frag_fill(p, &key);
	bpf_map_delete_elem(&weft_frag, &key);
	return 0;
}
