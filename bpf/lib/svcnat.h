/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Services for packets that still bear a service's address when they leave a pod:
 * of sockets that the socket programs do not see (a virtual machine's, a raw
 * socket's, those of another cgroup). The destination becomes a backend's before
 * conntrack and policy look at the packet, the source of the answers becomes the
 * service's again when they are delivered.
 *
 * A pod that reaches itself through a service would not accept a packet from its
 * own address: towards it the source is the service's address, too.
 */
#pragma once

#include "frag.h"
#include "naterr.h"
#include "service.h"

/* A pod is a client by its number, apart from those that are network namespaces. */
#define WEFT_CLIENT_POD (1ULL << 63)

/*
 * How many flows a pod may have to itself, in lengths of its ring: conntrack does not
 * know them, and the table is everybody's.
 */
#define WEFT_HAIRPIN_RINGS 8

static __always_inline struct weft_epstat_row *weft_stat_of(const struct weft_pkt *p)
{
	__u32 slot = p->own_slot;

	return bpf_map_lookup_elem(&weft_epstat, &slot);
}

/* Whether a flow between the pod and the backend has these ports without the service. */
static __always_inline bool weft_is_direct(const struct weft_pkt *p, const struct weft_nat *to,
					   const __u8 family)
{
	union weft_ct_key key;
	union weft_addr addr;
	struct weft_ct *ct;
	bool answered;

	weft_memcpy(&addr, to->addr, sizeof(addr));
	weft_ct_fill(&key, family, &p->src, &addr, p->sport, to->port, p->proto);
	ct = weft_ct_any(&key, family, &answered);
	if (!ct && p->proto == PROTO_TCP) {
		weft_ct_aside(&key, family, 1);
		ct = weft_ct_any(&key, family, &answered);
	}
	return ct && !(ct->flags & (WEFT_CT_SERVICE | WEFT_CT_CLOSING | WEFT_CT_REFUSED));
}

/* Chooses a backend of the service, and enters both keys of the flow to it. */
static __always_inline int weft_svc_choose(struct weft_pkt *p, const struct weft_svc *svc,
					   const __u8 family)
{
	struct weft_ep_row *own = weft_ep_get(p->own_slot);
	struct weft_nat to = {.flags = WEFT_NAT_DST, .created = p->now, .seen = p->now};
	struct weft_backend_row *b;
	enum weft_nat_entered entered;
	union weft_nat_key key;

	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	b = weft_choose(WEFT_CLIENT_POD | own->id, svc, &to.backend);
	if (!b || b->family != family)
		return WEFT_DROP_NO_BACKEND;
	weft_memcpy(to.addr, b->addr, sizeof(to.addr));
	to.port = b->port;
	to.service = svc->service;
	if (weft_same_ip6(&p->src, to.addr)) {
		struct weft_epstat_row *stat = weft_stat_of(p);

		if (!stat || stat->hairpin > WEFT_HAIRPIN_RINGS * weft_cfg.pend_max)
			return WEFT_DROP_NAT_FULL;
		to.flags |= WEFT_NAT_ALONE;
		to.service = p->own_slot;
		__sync_fetch_and_add(&stat->hairpin, 1);
	} else if (weft_is_direct(p, &to, family)) {
		return WEFT_DROP_NAT_FULL;
	}
	weft_nat_fill(&key, family, WEFT_NAT_FWD, &p->src, &p->dst, p->sport, p->dport, p->proto);
	entered = weft_nat_enter(&key, &to, family);
	if (entered == WEFT_NAT_TAKEN || entered == WEFT_NAT_NOROOM)
		return WEFT_DROP_NAT_FULL;
	weft_hit(svc->service, to.backend);
	return WEFT_PASSED;
}

/* Gives a backend to the flow of a packet for which weft_svc_packet found a service. */
__noinline int weft_svc_enter(struct weft_pkt *p)
{
	struct weft_peer at;
	struct weft_svc *svc;

	if (!p)
		return WEFT_DROP_MALFORMED;
	weft_peer_of(&p->dst, p->dport, p->family, &at);
	svc = weft_svc_find(&at, p->proto);
	if (!svc || (svc->flags & WEFT_SVC_OWN))
		return WEFT_DROP_NO_BACKEND;
	return p->family == 4 ? weft_svc_choose(p, svc, 4) : weft_svc_choose(p, svc, 6);
}

/*
 * The translation of a packet to a service. One to a backend that is gone is over:
 * a connection is told so, a datagram goes to another backend. So does a connection
 * that begins, if the backend takes no new ones.
 */
static __always_inline struct weft_nat *weft_svc_known(const struct weft_pkt *p,
						       const union weft_nat_key *key,
						       const __u8 family, bool *gone)
{
	struct weft_nat *n = weft_nat_find(key, family);
	struct weft_backend_row *b;
	__u32 backend;

	if (!n)
		return NULL;
	backend = n->backend;
	b = bpf_map_lookup_elem(&weft_backend, &backend);
	if (weft_likely(b) && (b->state == WEFT_BACKEND_ACTIVE || !(p->tcp & TCP_SYN)))
		return n;
	weft_nat_leave(key, family);
	*gone = p->proto == PROTO_TCP && !(p->tcp & TCP_SYN);
	return NULL;
}

/* Writes the service's address as the source of what a pod sends to itself. */
static __always_inline int weft_svc_hairpin(struct __sk_buff *ctx, struct weft_pkt *p,
					    const union weft_addr *front, const __u8 family)
{
	struct weft_nat from = {.port = p->sport};

	weft_memcpy(from.addr, front, sizeof(from.addr));
	p->other_slot = p->own_slot;
	return weft_nat_write(ctx, p, &from, family) ? WEFT_HAIRPIN : WEFT_DROP_NAT_FULL;
}

static __always_inline int weft_svc_forward(struct __sk_buff *ctx, struct weft_pkt *p,
					    const __u8 family)
{
	union weft_addr front = p->dst;
	union weft_nat_key key;
	struct weft_nat *n;
	bool gone = false;

	weft_nat_fill(&key, family, WEFT_NAT_FWD, &p->src, &p->dst, p->sport, p->dport, p->proto);
	n = weft_svc_known(p, &key, family, &gone);
	if (!n)
		return gone ? WEFT_DROP_NO_BACKEND : WEFT_SERVICE_NEW;
	if (p->frag == WEFT_FRAG_FIRST)
		weft_frag_keep(p);
	weft_nat_seen(n, p->now);
	if (n->flags & WEFT_NAT_ALONE) {
		weft_nat_follow(n, p->tcp);
		return weft_nat_write(ctx, p, n, family) ? weft_svc_hairpin(ctx, p, &front, family)
							 : WEFT_DROP_NAT_FULL;
	}
	p->called = 1;
	return weft_nat_write(ctx, p, n, family) ? WEFT_PASSED : WEFT_DROP_NAT_FULL;
}

/*
 * What a pod answers itself bears the service's address as destination, with the
 * port that it called from. The key has the pod's own address on both sides.
 */
static __always_inline int weft_svc_self(struct __sk_buff *ctx, struct weft_pkt *p,
					 const __u8 family)
{
	union weft_nat_key key;
	struct weft_nat own = {.flags = WEFT_NAT_DST, .port = p->dport};
	struct weft_nat *n;

	weft_nat_fill(&key, family, WEFT_NAT_BACK, &p->src, &p->src, p->sport, p->dport, p->proto);
	n = weft_nat_find(&key, family);
	if (!n || !weft_same_ip6(&p->dst, n->addr))
		return WEFT_PASSED;
	if (p->frag == WEFT_FRAG_FIRST)
		weft_frag_keep(p);
	weft_nat_seen(n, p->now);
	weft_nat_follow(n, p->tcp);
	weft_memcpy(own.addr, &p->src, sizeof(own.addr));
	p->other_slot = p->own_slot;
	if (!weft_nat_write(ctx, p, n, family) || !weft_nat_write(ctx, p, &own, family))
		return WEFT_DROP_NAT_FULL;
	return WEFT_HAIRPIN;
}

/*
 * To be called for a packet to a service that was refused and of whose flow conntrack
 * knows nothing: then nothing bounds or ends its keys, so they go at once.
 */
__noinline int weft_svc_refused(struct weft_pkt *p)
{
	union weft_nat_key key;

	if (!p)
		return 0;
	if (p->family == 4) {
		weft_nat_answer_key(&key, p, 4);
		return weft_nat_leave(&key, 4);
	}
	weft_nat_answer_key(&key, p, 6);
	return weft_nat_leave(&key, 6);
}

/*
 * Looks whether a packet of a pod, without an answered flow, is for a service.
 * WEFT_PASSED: go on, with the packet as it now is; WEFT_HAIRPIN: it is for the pod
 * itself; WEFT_SERVICE_NEW: its flow needs a backend; else the reason to drop it.
 */
__noinline int weft_svc_packet(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_epstat_row *stat;
	struct weft_peer at;
	struct weft_svc *svc;

	if (!p)
		return WEFT_DROP_MALFORMED;
	if (p->kind)
		return WEFT_PASSED;
	weft_peer_of(&p->dst, p->dport, p->family, &at);
	svc = weft_svc_find(&at, p->proto);
	if (svc && !(svc->flags & WEFT_SVC_OWN))
		return p->family == 4 ? weft_svc_forward(ctx, p, 4) : weft_svc_forward(ctx, p, 6);
	stat = weft_stat_of(p);
	if (weft_likely(!stat || !stat->hairpin))
		return WEFT_PASSED;
	return p->family == 4 ? weft_svc_self(ctx, p, 4) : weft_svc_self(ctx, p, 6);
}

/* The same for a flow that may be new. Stack is short: each step returns before the next. */
static __always_inline int weft_svc_call(struct __sk_buff *ctx, struct weft_pkt *p)
{
	int reason = weft_svc_packet(ctx, p);

	if (weft_likely(reason != WEFT_SERVICE_NEW))
		return reason;
	reason = weft_svc_enter(p);
	if (reason)
		return reason;
	reason = weft_svc_packet(ctx, p);
	return reason == WEFT_SERVICE_NEW ? WEFT_DROP_NAT_FULL : reason;
}

__noinline int weft_svc_back(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_nat *n;
	bool written;

	if (!p)
		return WEFT_DROP_MALFORMED;
	n = p->family == 4 ? weft_nat_of(p, 4, WEFT_NAT_BACK) : weft_nat_of(p, 6, WEFT_NAT_BACK);
	if (!n)
		return WEFT_DROP_NAT_FULL;
	weft_nat_seen(n, p->now);
	written = p->family == 4 ? weft_nat_write(ctx, p, n, 4) : weft_nat_write(ctx, p, n, 6);
	return written ? WEFT_PASSED : WEFT_DROP_NAT_FULL;
}

/*
 * An answer on its way to the pod that called a service, or an ICMP error about
 * what it sent: to be called when nothing looks at the packet's addresses any more.
 */
static __always_inline int weft_svc_answer(struct __sk_buff *ctx, struct weft_pkt *p)
{
	return p->kind == WEFT_ICMP_ERROR ? weft_nat_error(ctx, p, WEFT_NAT_BACK)
					  : weft_svc_back(ctx, p);
}
