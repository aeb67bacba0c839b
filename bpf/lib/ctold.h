/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * While conntrack of another layout is being carried over, a flow that the new
 * tables do not have yet is fetched from the old ones. Programs are loaded with
 * this on for that moment alone; in all others nothing of it is left.
 */
#pragma once

#include "ct.h"

/* Entries take memory only when they are there; the loader gives the old tables. */
#define WEFT_OLD_TABLE(name, key_type, row_type)                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, 1);                                                            \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__type(key, key_type);                                                             \
		__type(value, row_type);                                                           \
	} name SEC(".maps")

WEFT_OLD_TABLE(weft_ct4_old, struct weft_ct4_key, struct weft_ct4_row);
WEFT_OLD_TABLE(weft_ct6_old, struct weft_ct6_key, struct weft_ct6_row);
WEFT_OLD_TABLE(weft_ctn4_old, struct weft_ct4_key, struct weft_ct);
WEFT_OLD_TABLE(weft_ctn6_old, struct weft_ct6_key, struct weft_ct);

#define WEFT_OLD_NONE 0xff

/* Where in an old entry each byte of an entry of ours is; WEFT_OLD_NONE: nowhere. */
const volatile __u8 weft_old_at[sizeof(struct weft_ct)] = {};

/* What was fetched, on its way: stack is short. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weft_ct4_row);
} weft_fetched SEC(".maps");

static __always_inline const __u8 *weft_old_find(const union weft_ct_key *key, __u8 family,
						 bool answered)
{
	if (family == 4)
		return answered ? bpf_map_lookup_elem(&weft_ct4_old, &key->v4)
				: bpf_map_lookup_elem(&weft_ctn4_old, &key->v4);
	return answered ? bpf_map_lookup_elem(&weft_ct6_old, &key->v6)
			: bpf_map_lookup_elem(&weft_ctn6_old, &key->v6);
}

static __always_inline void weft_old_convert(struct weft_ct *ct, const __u8 *old)
{
	__u8 *ours = (void *)ct;
	__u8 at;

#pragma clang loop unroll(disable)
	for (int i = 0; i < (int)sizeof(*ct); i++) {
		at = weft_old_at[i];
		ours[i] = at == WEFT_OLD_NONE ? 0 : old[at];
	}
}

/* An entry that came into the new table meanwhile is the newer one. */
static __always_inline void weft_old_keep(const union weft_ct_key *key, __u8 family,
					  const struct weft_ct4_row *row, bool answered)
{
	if (family == 4 && answered)
		bpf_map_update_elem(&weft_ct4, &key->v4, row, BPF_NOEXIST);
	else if (family == 4)
		bpf_map_update_elem(&weft_ctn4, &key->v4, row, BPF_NOEXIST);
	else if (answered)
		bpf_map_update_elem(&weft_ct6, &key->v6, row, BPF_NOEXIST);
	else
		bpf_map_update_elem(&weft_ctn6, &key->v6, row, BPF_NOEXIST);
}

/*
 * Carries over the flow of this key, if the old tables have it. An unanswered one
 * has its place in its endpoint's ring already: the ring is the same.
 */
static __noinline void weft_old_fetch(const union weft_ct_key *key, __u8 family)
{
	const __u8 *old = weft_old_find(key, family, true);
	struct weft_ct4_row *row;
	bool answered = old;
	__u32 zero = 0;

	if (!old)
		old = weft_old_find(key, family, false);
	row = bpf_map_lookup_elem(&weft_fetched, &zero);
	if (!old || !row)
		return;
	weft_old_convert(&row->ct, old);
	weft_old_keep(key, family, row, answered);
}

static __always_inline struct weft_ct *weft_ct_look(const union weft_ct_key *key, __u8 family,
						    bool *answered)
{
	struct weft_ct *ct = weft_ct_find(key, family);

	*answered = ct != NULL;
	return ct ? ct : weft_ctn_find(key, family);
}

/* The entry of this key, answered or not, or NULL. */
static __always_inline struct weft_ct *weft_ct_any(const union weft_ct_key *key, __u8 family,
						   bool *answered)
{
	struct weft_ct *ct = weft_ct_look(key, family, answered);

	if (weft_likely(ct || !weft_cfg.old_ct))
		return ct;
	weft_old_fetch(key, family);
	return weft_ct_look(key, family, answered);
}
