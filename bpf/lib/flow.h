/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters and flow events. */
#pragma once

#include "named.h"
#include "proxy.h"

static __always_inline void weft_count(__u8 reason, __u8 dir, __u32 packets, __u32 bytes)
{
	__u32 index = reason * 2 + dir;
	struct weft_counter *c = bpf_map_lookup_elem(&weft_metrics, &index);

	if (c) {
		c->packets += packets;
		c->bytes += bytes;
	}
}

static __always_inline struct weft_flow *weft_event_new(void)
{
	struct weft_flow *e;
	__u32 zero = 0;
	__u64 *lost;

	if (!weft_cfg.flow_events)
		return NULL;
	e = bpf_ringbuf_reserve(&weft_events, sizeof(*e), 0);
	if (e)
		return e;
	lost = bpf_map_lookup_elem(&weft_lost, &zero);
	if (lost)
		*lost += 1;
	return NULL;
}

/*
 * Waking the agent costs more than all else about an event, so it comes by itself,
 * some times a second, and is called only when much is waiting.
 */
static __always_inline void weft_event_send(struct weft_flow *e)
{
	bool much = bpf_ringbuf_query(&weft_events, BPF_RB_AVAIL_DATA) > WEFT_EVENTS_SIZE / 4;

	bpf_ringbuf_submit(e, much ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static __always_inline void weft_flow_addrs(struct weft_flow *e, const union weft_ct_key *key,
					    __u8 family, bool b)
{
	if (family == 4) {
		weft_memset(e->addr, 0, sizeof(e->addr));
		weft_memcpy(e->addr[0], b ? &key->v4.addr[1] : &key->v4.addr[0], 4);
		weft_memcpy(e->addr[1], b ? &key->v4.addr[0] : &key->v4.addr[1], 4);
		e->port[0] = b ? key->v4.port[1] : key->v4.port[0];
		e->port[1] = b ? key->v4.port[0] : key->v4.port[1];
		e->proto = key->v4.proto;
		return;
	}
	weft_memcpy(e->addr[0], b ? key->v6.addr[1] : key->v6.addr[0], 16);
	weft_memcpy(e->addr[1], b ? key->v6.addr[0] : key->v6.addr[1], 16);
	e->port[0] = b ? key->v6.port[1] : key->v6.port[0];
	e->port[1] = b ? key->v6.port[0] : key->v6.port[1];
	e->proto = key->v6.proto;
}

/* An event about a flow in conntrack. meta: family << 8 | enum weft_flow_type. */
static __noinline int weft_event_ct(const union weft_ct_key *key, const struct weft_ct *ct,
				    __u32 meta, __u32 ifindex)
{
	struct weft_flow *e = weft_event_new();

	if (!e)
		return 0;
	e->time = bpf_ktime_get_ns();
	e->type = meta & 0xff;
	e->reason = WEFT_PASSED;
	e->dir = ct->slot[0] ? WEFT_EGRESS : WEFT_INGRESS;
	e->family = meta >> 8;
	e->tcp_flags = ct->tcp[0] | ct->tcp[1];
	e->icmp = ct->icmp;
	weft_memcpy(e->rule, ct->rule, sizeof(e->rule));
	weft_memcpy(e->identity, ct->identity, sizeof(e->identity));
	weft_memcpy(e->slot, ct->slot, sizeof(e->slot));
	weft_memcpy(e->packets, ct->packets, sizeof(e->packets));
	weft_memcpy(e->bytes, ct->bytes, sizeof(e->bytes));
	weft_flow_addrs(e, key, e->family, ct->flags & WEFT_CT_FROM_B);
	e->count = 0;
	e->ifindex = ifindex;
	e->age = (__u64)((__u32)bpf_jiffies64() - ct->created) * 1000 / weft_cfg.hz;
	e->service = ct->service;
	e->backend = ct->backend;
	e->ruleset = ct->ruleset;
	e->leg = weft_leg_of(ct);
	e->pad = 0;
	weft_event_send(e);
	return 0;
}

static __always_inline void weft_flow_of_drop(struct __sk_buff *ctx, struct weft_flow *e,
					      struct weft_pkt *p, __u8 reason)
{
	bool sent = p->hook == WEFT_EGRESS;
	struct weft_names names = {};

	weft_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_ns();
	e->type = WEFT_FLOW_DROP;
	e->reason = reason;
	e->dir = p->dir;
	e->family = p->family;
	e->proto = p->proto;
	e->tcp_flags = p->tcp;
	e->icmp = p->icmp;
	e->rule[0] = p->dir == WEFT_EGRESS ? p->rule : 0;
	e->rule[1] = p->dir == WEFT_EGRESS ? 0 : p->rule;
	weft_memcpy(e->identity, p->ident, sizeof(e->identity));
	e->slot[0] = sent ? p->own_slot : p->other_slot;
	e->slot[1] = sent ? p->other_slot : p->own_slot;
	e->port[0] = p->sport;
	e->port[1] = p->dport;
	weft_memcpy(e->addr[0], &p->src, 16);
	weft_memcpy(e->addr[1], &p->dst, 16);
	e->packets[0] = p->segs;
	e->bytes[0] = p->len;
	e->ifindex = ctx->ifindex;
	weft_name(ctx, p, &names);
	e->service = names.service;
	e->backend = names.backend;
}

static __always_inline void weft_drop_report(struct weft_drop *d, __u32 count)
{
	struct weft_flow *e = weft_event_new();

	if (!e)
		return;
	*e = d->last;
	e->count = count;
	weft_event_send(e);
}

/* Reports what came since the last report, unless that was just now. */
static __always_inline bool weft_drop_flush(struct weft_drop *d, __u32 now)
{
	__u32 count, reported = d->reported;

	if (now - reported < weft_cfg.hz / 10)
		return false;
	if (__sync_val_compare_and_swap(&d->reported, reported, now) != reported)
		return false; /* another CPU does it */
	count = __sync_lock_test_and_set(&d->last.count, 0);
	if (!count)
		return false;
	weft_drop_report(d, count);
	return true;
}

/* Counts a drop and reports it: the first of its kind at once, then now and then. */
__noinline int weft_refuse(struct __sk_buff *ctx, struct weft_pkt *p, __u32 reason)
{
	struct weft_drop *d, fresh;

	if (!p || reason >= WEFT_REASON_MAX)
		return TC_ACT_SHOT;

	struct weft_drop_key key = {
		.peer = p->peer,
		.rule = p->rule,
		.dport = p->kind ? bpf_htons(p->icmp) : p->dport,
		.slot = p->own_slot,
		.reason = reason,
		.dir = p->dir,
		.proto = p->proto,
		.family = p->family,
	};

	weft_count(reason, p->dir & 1, p->segs, p->len);
	if (p->quiet || !weft_cfg.flow_events)
		return TC_ACT_SHOT;
	d = bpf_map_lookup_elem(&weft_drops, &key);
	if (d) {
		__u32 count = d->last.count;

		weft_flow_of_drop(ctx, &fresh.last, p, reason);
		/* All but the count, which other CPUs add to. */
		fresh.last.count = count;
		__sync_fetch_and_add(&d->packets, p->segs);
		__sync_fetch_and_add(&d->bytes, p->len);
		weft_memcpy(&d->last, &fresh.last, __builtin_offsetof(struct weft_flow, count));
		d->last.service = fresh.last.service;
		d->last.backend = fresh.last.backend;
		__sync_fetch_and_add(&d->last.count, p->segs);
		weft_drop_flush(d, p->now);
		return TC_ACT_SHOT;
	}
	weft_memset(&fresh, 0, sizeof(fresh));
	weft_flow_of_drop(ctx, &fresh.last, p, reason);
	fresh.packets = p->segs;
	fresh.bytes = p->len;
	fresh.reported = p->now;
	weft_drop_report(&fresh, p->segs);
	bpf_map_update_elem(&weft_drops, &key, &fresh, BPF_ANY);
	return TC_ACT_SHOT;
}
