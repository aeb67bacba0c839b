/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose a device and an address are. */
#pragma once

#include "packet.h"

#define WEFT_ID_CLUSTER_MIN 256
#define WEFT_ID_LOCAL_MIN (1U << 24) /* identities of prefixes, outside of the cluster */

/*
 * Neither the cluster's nor a node's. An API server may be either: from a node's
 * address both kinds answer.
 */
static __always_inline bool weft_is_outside(__u32 identity)
{
	return identity == WEFT_ID_WORLD_IPV4 || identity == WEFT_ID_WORLD_IPV6 ||
	       identity == WEFT_ID_KUBE_APISERVER || identity >= WEFT_ID_LOCAL_MIN;
}

/* One of the cluster's pods, as another node's are known: by its labels. */
static __always_inline bool weft_is_elsewhere(__u32 identity)
{
	return identity >= WEFT_ID_CLUSTER_MIN && identity < WEFT_ID_LOCAL_MIN;
}

/* The row of a slot, or NULL where none is in use. */
static __always_inline struct weft_ep_row *weft_ep_get(__u32 slot)
{
	struct weft_ep_row *ep = bpf_map_lookup_elem(&weft_ep, &slot);

	return ep && ep->ifindex && ep->epoch ? ep : NULL;
}

/* Apart, or the compiler makes one call of both look-ups, which then is not inlined. */
static __noinline __u32 weft_if_far(__u32 ifindex)
{
	__u32 *slot = bpf_map_lookup_elem(&weft_if_hi, &ifindex);

	return slot ? *slot : 0;
}

/* The endpoint behind a device. The row must agree: a slot may have passed on. */
static __always_inline struct weft_ep_row *weft_ep_of(__u32 ifindex, __u16 *slot)
{
	struct weft_ep_row *ep;
	__u32 *near = bpf_map_lookup_elem(&weft_if, &ifindex);
	__u32 s = weft_likely(near) ? *near : weft_if_far(ifindex);

	if (!s)
		return NULL;
	*slot = s;
	ep = weft_ep_get(s);
	return ep && ep->ifindex == ifindex ? ep : NULL;
}

/* What the node knows of an address; the world where it knows nothing. */
static __always_inline void weft_ip_get(__u8 family, const union weft_addr *addr,
					struct weft_ip *out)
{
	struct weft_ip *ip;

	if (family == 4) {
		struct weft_ip4_key key = {.prefixlen = 32, .addr = addr->v4};

		ip = bpf_map_lookup_elem(&weft_ip4, &key);
	} else {
		struct weft_ip6_key key = {.prefixlen = 128};

		weft_memcpy(key.addr, addr, 16);
		ip = bpf_map_lookup_elem(&weft_ip6, &key);
	}
	if (ip) {
		*out = *ip;
		return;
	}
	out->identity = family == 4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
	out->slot = 0;
	out->node = 0;
}

/* How often identities were swept; see weft_gen in maps.h. */
static __always_inline __u32 weft_gen_get(void)
{
	__u32 zero = 0, *gen = bpf_map_lookup_elem(&weft_gen, &zero);

	return gen ? *(volatile __u32 *)gen : 0;
}
