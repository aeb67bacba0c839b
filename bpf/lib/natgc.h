/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of translated flows. Most end with their entry of conntrack
 * (weft_nat_end). Here goes what is left: flows whose entry was pushed out, flows
 * of the host's own, and those whose address the host no longer has.
 */
#pragma once

#include "hostport.h"
#include "identity.h"
#include "leg.h"

struct weft_nat_state {
	__u64 live;
	__u64 expired;
	__u32 now;
	__u32 pad;
};

/* Whether that many seconds have passed. A packet seen after now began counts as now. */
static __always_inline bool weft_past(__u32 now, __u32 then, __u32 s)
{
	__s32 gone = now - then;

	return gone > 0 && (__u32)gone > s * weft_cfg.hz;
}

/* The key by which conntrack knows the flow: a pod and whom it really talks to. */
static __always_inline void weft_nat_ct_key(union weft_ct_key *ct, const union weft_nat_key *key,
					    const union weft_nat_key *twin, const __u8 family)
{
	bool out = (family == 4 ? key->v4.kind : key->v6.kind) == WEFT_NAT_OUT;
	union weft_addr src = {}, dst = {};

	if (family == 4) {
		const struct weft_nat4_key *k = out ? &key->v4 : &twin->v4;

		src.v4 = k->src;
		dst.v4 = k->dst;
		weft_ct_fill(ct, 4, &src, &dst, k->sport, k->dport, k->proto);
		return;
	}
	const struct weft_nat6_key *k = out ? &key->v6 : &twin->v6;

	weft_memcpy(&src, k->src, 16);
	weft_memcpy(&dst, k->dst, 16);
	weft_ct_fill(ct, 6, &src, &dst, k->sport, k->dport, k->proto);
}

/*
 * Whether the host has lost the address that packets leave with. The agent may
 * enter a new address a moment later than it is used.
 */
static __always_inline bool weft_nat_homeless(const struct weft_nat *n, __u32 now)
{
	struct weft_home_key key;

	weft_memcpy(key.addr, n->addr, sizeof(key.addr));
	return !bpf_map_lookup_elem(&weft_home, &key) &&
	       weft_past(now, n->created, weft_cfg.close_timeout);
}

/* How long a flow that is not in conntrack may be silent. */
static __always_inline __u32 weft_nat_idle(const struct weft_nat *n, const struct weft_nat *twin,
					   __u8 proto)
{
	if (proto != PROTO_TCP)
		return weft_cfg.any_timeout;
	if (((n->tcp | twin->tcp) & TCP_RST) || (n->tcp & twin->tcp & TCP_FIN))
		return weft_cfg.close_timeout;
	return weft_cfg.tcp_timeout;
}

/* Whether a flow, looked at by the key of its way out, is over. */
static __always_inline bool weft_nat_over(const union weft_nat_key *key, const struct weft_nat *n,
					  const struct weft_nat_state *s, const __u8 family)
{
	__u8 kind = family == 4 ? key->v4.kind : key->v6.kind;
	__u8 proto = family == 4 ? key->v4.proto : key->v6.proto;
	__u32 idle = weft_cfg.close_timeout, back;
	union weft_nat_key twin;
	union weft_ct_key ct;
	struct weft_nat *t;

	if (kind == WEFT_NAT_OUT && (weft_nat_homeless(n, s->now) || !weft_port_stands(n)))
		return true;
	weft_nat_twin(&twin, key, n, family);
	t = weft_nat_find(&twin, family);
	if (t) {
		back = t->seen;
		if (n->flags & WEFT_NAT_ALONE)
			idle = weft_nat_idle(n, t, proto);
		if (!weft_past(s->now, n->seen, idle) || !weft_past(s->now, back, idle))
			return false;
		if (n->flags & WEFT_NAT_ALONE)
			return true;
		weft_nat_ct_key(&ct, key, &twin, family);
		if (weft_ct_find(&ct, family) || weft_ctn_find(&ct, family))
			return false;
		weft_ct_aside(&ct, family, 1);
		return !weft_ct_find(&ct, family) && !weft_ctn_find(&ct, family);
	}
	return weft_past(s->now, n->created, idle); /* half of a flow, even if it is used */
}

/* Before the flows of pods to themselves are counted anew. */
static long weft_nat_recount(struct bpf_map *map, __u32 *slot, struct weft_epstat_row *stat,
			     struct weft_nat_state *s)
{
	if (stat->hairpin > 1)
		stat->hairpin = 1;
	return 0;
}

static __always_inline void weft_nat_count_own(const union weft_nat_key *key,
					       const struct weft_nat *n, const __u8 family)
{
	__u32 slot = n->service;
	struct weft_epstat_row *stat = bpf_map_lookup_elem(&weft_epstat, &slot);
	struct weft_ep_row *ep = weft_ep_get(slot);

	if (!stat || !ep)
		return;
	/* The slot may have passed on, and the count is the new pod's. */
	if (family == 4 ? key->v4.src == ep->ip4
			: weft_same_ip6((const union weft_addr *)key->v6.src, ep->ip6))
		__sync_fetch_and_add(&stat->hairpin, 1);
}

static __always_inline long weft_nat_collect(const union weft_nat_key *key,
					     const struct weft_nat *n, struct weft_nat_state *s,
					     const __u8 family)
{
	__u8 kind = family == 4 ? key->v4.kind : key->v6.kind;
	union weft_nat_key twin;

	if (kind & 1) { /* the way back goes with its twin, unless it has none */
		if (!weft_past(s->now, n->created, weft_cfg.close_timeout))
			return 0;
		weft_nat_twin(&twin, key, n, family);
		if (!weft_nat_find(&twin, family))
			weft_nat_del(key, family);
		return 0;
	}
	if (weft_nat_over(key, n, s, family)) {
		s->expired += weft_nat_leave(key, family);
		return 0;
	}
	s->live++;
	if (kind == WEFT_NAT_FWD && (n->flags & WEFT_NAT_ALONE))
		weft_nat_count_own(key, n, family);
	return 0;
}

static long weft_nat_each4(struct bpf_map *map, struct weft_nat4_key *key, struct weft_nat *n,
			   struct weft_nat_state *s)
{
	union weft_nat_key k;

	k.v4 = *key;
	return weft_nat_collect(&k, n, s, 4);
}

static long weft_nat_each6(struct bpf_map *map, struct weft_nat6_key *key, struct weft_nat *n,
			   struct weft_nat_state *s)
{
	union weft_nat_key k;

	k.v6 = *key;
	return weft_nat_collect(&k, n, s, 6);
}

static __always_inline int weft_nat_gc_run(struct weft_natgc *ctx)
{
	struct weft_nat_state s = {.now = bpf_jiffies64()};

	bpf_for_each_map_elem(&weft_epstat, weft_nat_recount, &s, 0);
	bpf_for_each_map_elem(&weft_nat4, weft_nat_each4, &s, 0);
	bpf_for_each_map_elem(&weft_nat6, weft_nat_each6, &s, 0);
	ctx->live = s.live;
	ctx->expired = s.expired;
	return 0;
}
