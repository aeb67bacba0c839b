/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Timeouts, reports about long-lived flows, tails of drop floods. */
#pragma once

#include "flow.h"
#include "nat.h"

struct weft_gc_state {
	__u64 live;
	__u64 pending;
	__u64 expired;
	__u64 drops;
	__u32 now;
	__u8 answered;
	__u8 pad[3];
};

/* Jiffies that a flow in this state may be silent. */
static __always_inline __u32 weft_gc_timeout(const struct weft_ct *ct, __u8 proto, bool answered)
{
	__u32 s;

	if (ct->flags & WEFT_CT_CLOSING)
		s = weft_cfg.close_timeout;
	else if (!answered)
		s = weft_cfg.new_timeout;
	else
		s = proto == PROTO_TCP ? weft_cfg.tcp_timeout : weft_cfg.any_timeout;
	return s * weft_cfg.hz;
}

/* True if the flow is to be removed. A packet seen after now began counts as now. */
static __always_inline bool weft_gc_flow(const union weft_ct_key *key, struct weft_ct *ct,
					 struct weft_gc_state *s, __u8 family, __u8 proto)
{
	__s32 silent = s->now - ct->seen;

	if (silent > 0 && (__u32)silent > weft_gc_timeout(ct, proto, s->answered)) {
		if (!(ct->flags & WEFT_CT_REFUSED))
			weft_event_ct(key, ct, (__u32)family << 8 | WEFT_FLOW_END, 0);
		s->expired++;
		return true;
	}
	if (s->answered)
		s->live++;
	else
		s->pending++;
	if (!(ct->flags & WEFT_CT_REFUSED) &&
	    s->now - ct->reported >= weft_cfg.alive_every * weft_cfg.hz) {
		ct->reported = s->now;
		weft_event_ct(key, ct, (__u32)family << 8 | WEFT_FLOW_ALIVE, 0);
	}
	return false;
}

static long weft_gc4(struct bpf_map *map, struct weft_ct4_key *key, struct weft_ct *ct,
		     struct weft_gc_state *s)
{
	union weft_ct_key k;
	__u8 flags;

	weft_memset(&k, 0, sizeof(k));
	k.v4 = *key;
	if (!weft_gc_flow(&k, ct, s, 4, key->proto))
		return 0;
	flags = ct->flags;
	if (!bpf_map_delete_elem(map, &k))
		weft_nat_end(&k.v6, 4 << 8 | flags);
	return 0;
}

static long weft_gc6(struct bpf_map *map, struct weft_ct6_key *key, struct weft_ct *ct,
		     struct weft_gc_state *s)
{
	union weft_ct_key k;
	__u8 flags;

	k.v6 = *key;
	if (!weft_gc_flow(&k, ct, s, 6, key->proto))
		return 0;
	flags = ct->flags;
	if (!bpf_map_delete_elem(map, &k))
		weft_nat_end(&k.v6, 6 << 8 | flags);
	return 0;
}

static long weft_gc_drop(struct bpf_map *map, struct weft_drop_key *key, struct weft_drop *d,
			 struct weft_gc_state *s)
{
	if (d->last.count && weft_drop_flush(d, s->now))
		s->drops++;
	return 0;
}

/* Of its own for each table: Linux 6.1 refuses a call whose table depends on where it came from. */
#define weft_gc_each(map, look, s)                                                                 \
	__attribute__((nomerge)) bpf_for_each_map_elem(&(map), look, s, 0)

static __always_inline int weft_gc_run(struct weft_gc *ctx)
{
	struct weft_gc_state s = {.now = bpf_jiffies64()};

	s.answered = ctx->part == WEFT_GC_ANSWERED4 || ctx->part == WEFT_GC_ANSWERED6;
	switch (ctx->part) {
	case WEFT_GC_UNANSWERED4:
		weft_gc_each(weft_ctn4, weft_gc4, &s);
		break;
	case WEFT_GC_UNANSWERED6:
		weft_gc_each(weft_ctn6, weft_gc6, &s);
		break;
	case WEFT_GC_ANSWERED4:
		weft_gc_each(weft_ct4, weft_gc4, &s);
		break;
	case WEFT_GC_ANSWERED6:
		weft_gc_each(weft_ct6, weft_gc6, &s);
		break;
	case WEFT_GC_DROPS:
		weft_gc_each(weft_drops, weft_gc_drop, &s);
		break;
	}
	ctx->live += s.live;
	ctx->pending += s.pending;
	ctx->expired += s.expired;
	ctx->drops += s.drops;
	return 0;
}
