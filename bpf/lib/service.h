/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From the address of a service to one of its backends. */
#pragma once

#include "packet.h"

/* How many slots are looked at before a service counts as not served. */
#define WEFT_TRIES 4

/* One end of a conversation; IPv4 in the first word, the others zero. */
struct weft_peer {
	union {
		__u64 addr[2];
		__be32 word[4];
	};
	__be16 port;
	__u8 family; /* 4 or 6 */
};

static __always_inline void weft_peer_of(const union weft_addr *addr, __be16 port, __u8 family,
					 struct weft_peer *to)
{
	to->addr[0] = addr->d[0];
	to->addr[1] = addr->d[1];
	to->port = port;
	to->family = family;
}

static __always_inline struct weft_svc *weft_svc_find(const struct weft_peer *at, __u8 proto)
{
	if (at->family == 4) {
		struct weft_svc4_key key = {
			.addr = at->word[0],
			.port = at->port,
			.proto = proto,
		};
		return bpf_map_lookup_elem(&weft_svc4, &key);
	}
	struct weft_svc6_key key = {
		.port = at->port,
		.proto = proto,
	};
	__builtin_memcpy(key.addr, at->addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&weft_svc6, &key);
}

/* The backend by its number, if it takes new connections. */
static __always_inline struct weft_backend_row *weft_backend_active(__u32 number)
{
	struct weft_backend_row *b = bpf_map_lookup_elem(&weft_backend, &number);

	return b && b->state == WEFT_BACKEND_ACTIVE ? b : NULL;
}

/* Spreads a client's cookie evenly (the finalizer of splitmix64). */
static __always_inline __u32 weft_client_hash(__u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (__u32)(x ^ (x >> 31));
}

/*
 * A backend of the service and its number, NULL if nobody serves. A slot may be
 * about to change under us: then the next one is tried.
 */
static __always_inline struct weft_backend_row *weft_choose_slot(const struct weft_svc *svc,
								 __u64 client, __u32 *number)
{
	__u32 count = svc->count;
	__u32 at = svc->algorithm == WEFT_MAGLEV ? weft_client_hash(client) : bpf_get_prandom_u32();

	if (count == 0)
		return NULL;
	for (int i = 0; i < WEFT_TRIES; i++) {
		struct weft_slot_key key = {
			.service = svc->service,
			.index = (at + i) % count,
		};
		__u32 *slot = bpf_map_lookup_elem(&weft_svc_slot, &key);
		if (!slot)
			continue;
		*number = *slot;
		struct weft_backend_row *b = weft_backend_active(*number);
		if (b)
			return b;
	}
	return NULL;
}

/* A client with affinity keeps its backend while that takes connections. */
static __always_inline struct weft_backend_row *
weft_choose(__u64 client, const struct weft_svc *svc, __u32 *number)
{
	struct weft_client_key key = {
		.client = client,
		.service = svc->service,
	};
	__u32 now = (__u32)bpf_jiffies64();

	if (!svc->affinity)
		return weft_choose_slot(svc, key.client, number);
	struct weft_client_row *last = bpf_map_lookup_elem(&weft_affinity, &key);
	if (last && now - last->seen < svc->affinity * weft_cfg.hz) {
		struct weft_backend_row *b = weft_backend_active(last->backend);
		if (b) {
			*number = last->backend;
			last->seen = now;
			return b;
		}
	}
	struct weft_backend_row *b = weft_choose_slot(svc, key.client, number);
	if (b) {
		struct weft_client_row row = {
			.backend = *number,
			.seen = now,
		};
		bpf_map_update_elem(&weft_affinity, &key, &row, BPF_ANY);
	}
	return b;
}

static __always_inline void weft_hit(__u32 service, __u32 backend)
{
	struct weft_hit_key key = {
		.service = service,
		.backend = backend,
	};
	__u64 one = 1, *n = bpf_map_lookup_elem(&weft_svc_hits, &key);

	if (n)
		*n += 1;
	else
		bpf_map_update_elem(&weft_svc_hits, &key, &one, BPF_NOEXIST);
}
