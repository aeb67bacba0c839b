/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses whose identity has changed: their flows are marked stale. */
#pragma once

#include "packet.h"

struct weft_sweep_state {
	__u32 matched;
	__u32 pad;
};

/* 1 for 0, else 0, without a branch: each would double what the verifier walks. */
static __always_inline __u32 weft_is_zero(__u32 x)
{
	__u32 neg = -x;

	asm volatile("" : "+r"(neg)); /* keeps the compiler from seeing a comparison */
	return ~((x | neg) >> 31) & 1;
}

static __always_inline __u32 weft_covers(const __be32 *want, const __be32 *mask, const __be32 *addr,
					 const __u8 family)
{
	__u32 diff = (addr[0] ^ want[0]) & mask[0];

	if (family == 6) {
		diff |= (addr[1] ^ want[1]) & mask[1];
		diff |= (addr[2] ^ want[2]) & mask[2];
		diff |= (addr[3] ^ want[3]) & mask[3];
	}
	return weft_is_zero(diff);
}

static __always_inline long weft_sweep_flow(const void *a, const void *b, struct weft_ct *ct,
					    struct weft_sweep_state *s, const __u8 family)
{
	struct weft_swept_row *want;
	__u32 zero = 0, hit = 0, count;

	want = bpf_map_lookup_elem(&weft_swept, &zero);
	if (!want)
		return 1;
	count = want->count;
	for (__u32 i = 0; i < WEFT_SWEEP_MAX; i++) {
		__be32 *addr = want->prefix[i].addr, *mask = want->prefix[i].mask;

		if (i >= count)
			break;
		hit |= weft_is_zero(want->prefix[i].family ^ family) &
		       (weft_covers(addr, mask, a, family) | weft_covers(addr, mask, b, family));
	}
	if (!hit)
		return 0;
	__sync_fetch_and_or((__u32 *)(void *)&ct->flags, WEFT_CT_STALE);
	s->matched++;
	return 0;
}

static long weft_sweep4(struct bpf_map *map, struct weft_ct4_key *key, struct weft_ct *ct,
			struct weft_sweep_state *s)
{
	return weft_sweep_flow(&key->addr[0], &key->addr[1], ct, s, 4);
}

static long weft_sweep6(struct bpf_map *map, struct weft_ct6_key *key, struct weft_ct *ct,
			struct weft_sweep_state *s)
{
	return weft_sweep_flow(key->addr[0], key->addr[1], ct, s, 6);
}

/*
 * The bits of the word'th 32 of an address that a prefix of so many bits covers.
 * Global, so that the verifier looks at it once and not with every call.
 */
__noinline __u32 weft_mask(int bits, int word)
{
	bits -= word * 32;
	if (bits >= 32)
		return ~0U;
	return bits <= 0 ? 0 : bpf_htonl(~(~0U >> bits));
}

static __always_inline void weft_sweep_take(const struct weft_sweep *ctx,
					    struct weft_swept_row *want)
{
	want->count = ctx->count;
	/* Unrolled: offsets into the argument must be constants. */
#pragma unroll
	for (int i = 0; i < WEFT_SWEEP_MAX; i++) {
		weft_memcpy(want->prefix[i].addr, ctx->prefix[i].addr, 16);
		want->prefix[i].family = ctx->prefix[i].family;
		want->prefix[i].bits = ctx->prefix[i].bits;
	}
	for (int i = 0; i < WEFT_SWEEP_MAX; i++)
		for (int w = 0; w < 4; w++)
			want->prefix[i].mask[w] = weft_mask(want->prefix[i].bits, w);
}

static __always_inline int weft_sweep_run(struct weft_sweep *ctx)
{
	struct weft_sweep_state s = {};
	struct weft_swept_row *want;
	__u32 zero = 0, *gen;

	want = bpf_map_lookup_elem(&weft_swept, &zero);
	gen = bpf_map_lookup_elem(&weft_gen, &zero);
	if (!want || !gen)
		return 1;
	weft_sweep_take(ctx, want);
	__sync_fetch_and_add(gen, 1);
	bpf_for_each_map_elem(&weft_ct4, weft_sweep4, &s, 0);
	bpf_for_each_map_elem(&weft_ctn4, weft_sweep4, &s, 0);
	bpf_for_each_map_elem(&weft_ct6, weft_sweep6, &s, 0);
	bpf_for_each_map_elem(&weft_ctn6, weft_sweep6, &s, 0);
	ctx->matched = s.matched;
	return 0;
}
