/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ports of the host's that are a pod's (hostPort), for what comes in by an uplink.
 * The flow gets the keys of masquerade with the roles turned: that of the way in
 * gives a packet the pod's address, that of the way out gives the answer the
 * host's again. The pod's device sees the client's own address, and decides.
 */
#pragma once

#include "nat.h"
#include "service.h"

static __always_inline struct weft_ports_row *weft_ports_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weft_ports, &zero);
}

static __always_inline bool weft_ports_any(void)
{
	struct weft_ports_row *ports = weft_ports_get();

	return ports && ports->fronts;
}

/* The front end of a pod's port at an address of the host's, or NULL. */
static __always_inline struct weft_svc *weft_port_find(const union weft_addr *addr, __be16 port,
						       __u8 proto, __u8 family)
{
	struct weft_peer at;
	struct weft_svc *svc;

	weft_peer_of(addr, port, family, &at);
	svc = weft_svc_find(&at, proto);
	return svc && (svc->flags & WEFT_SVC_PORT) ? svc : NULL;
}

/* Whether a packet may be the first of a flow. */
static __always_inline bool weft_opens(const struct weft_pkt *p)
{
	if (p->proto == PROTO_TCP)
		return (p->tcp & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	return (p->proto == PROTO_UDP || p->proto == PROTO_SCTP) && p->frag != WEFT_FRAG_LATER;
}

/*
 * Whether answers to the address and port would be taken for what comes to a pod's
 * port. TCP's are known by their flags.
 */
__noinline int weft_port_taken(struct weft_pkt *p, struct weft_nat *n)
{
	union weft_addr addr;

	if (!p || !n || !weft_ports_any())
		return 0;
	weft_memcpy(&addr, n->addr, sizeof(addr));
	return weft_port_find(&addr, n->port, p->proto, p->family) != NULL;
}

/*
 * The flow that was noted in a place ends, if nobody has answered it; not the one that
 * takes the place: a client may use the port of a flow that is over again.
 */
static __always_inline void weft_port_evict(const struct weft_asked_row *row,
					    const union weft_nat_key *taker)
{
	union weft_nat_key old;
	struct weft_nat *n;

	if (!row->family)
		return;
	weft_memcpy(&old, &row->key, sizeof(old));
	if (weft_nat_same(&old, taker))
		return;
	n = weft_nat_find(&old, row->family);
	if (n && (n->flags & WEFT_NAT_ASKED))
		weft_nat_leave(&old, row->family);
}

/*
 * Notes the packet's flow, which was just entered, among the unanswered, in the
 * place of the oldest. Apart from what enters it, as stack is short.
 */
__noinline int weft_port_note(struct weft_pkt *p)
{
	struct weft_ports_row *ports = weft_ports_get();
	union weft_nat_key key, out;
	struct weft_asked_row *row;
	struct weft_nat *n;
	__u32 place;

	if (!p || !ports || !weft_cfg.asked_max)
		return 0;
	place = __sync_fetch_and_add(&ports->next, 1) % weft_cfg.asked_max;
	row = bpf_map_lookup_elem(&weft_asked, &place);
	if (!row)
		return 0;
	weft_nat_fill(&key, p->family, WEFT_NAT_IN, &p->src, &p->dst, p->sport, p->dport, p->proto);
	n = weft_nat_find(&key, p->family);
	if (!n)
		return 0;
	weft_memset(&out, 0, sizeof(out));
	weft_nat_twin(&out, &key, n, p->family);
	weft_port_evict(row, &out);
	weft_memcpy(&row->key, &out, sizeof(row->key));
	row->family = p->family;
	return 0;
}

/* Enters both keys of a flow from outside to the backend of a pod's port. */
static __always_inline int weft_port_enter(struct weft_pkt *p, const struct weft_nat *to,
					   const __u8 family)
{
	enum weft_nat_entered entered;
	union weft_nat_key key;

	weft_nat_fill(&key, family, WEFT_NAT_IN, &p->src, &p->dst, p->sport, p->dport, p->proto);
	entered = weft_nat_enter(&key, to, family);
	if (entered == WEFT_NAT_ENTERED) {
		weft_hit(to->service, to->backend);
		return WEFT_PASSED;
	}
	/* Another packet of the flow may have entered it on another CPU. */
	return weft_nat_find(&key, family) ? WEFT_PASSED : WEFT_DROP_NAT_FULL;
}

/*
 * A packet that opens a flow and has no key. WEFT_PASSED: it has one now;
 * WEFT_AS_IS: it is for no pod's port; else the reason to drop it.
 */
__noinline int weft_port_open(struct weft_pkt *p)
{
	struct weft_nat to = {.flags = WEFT_NAT_DST | WEFT_NAT_ASKED};
	struct weft_backend_row *b;
	struct weft_svc *svc;

	if (!p)
		return WEFT_AS_IS;
	svc = weft_port_find(&p->dst, p->dport, p->proto, p->family);
	if (!svc)
		return WEFT_AS_IS;
	b = weft_choose_slot(svc, 0, &to.backend);
	if (!b || b->family != p->family)
		return WEFT_DROP_NO_BACKEND;
	weft_memcpy(to.addr, b->addr, sizeof(to.addr));
	to.port = b->port;
	to.service = svc->service;
	to.created = to.seen = p->now;
	return p->family == 4 ? weft_port_enter(p, &to, 4) : weft_port_enter(p, &to, 6);
}

/* Whether the pod behind a translation is still there. Others than to pods' ports name none. */
static __always_inline bool weft_port_stands(const struct weft_nat *n)
{
	__u32 backend = n->backend;

	return weft_likely(!backend) || bpf_map_lookup_elem(&weft_backend, &backend);
}

/* The packet's flow was to a pod that is gone: its keys go. */
__noinline int weft_port_gone(struct weft_pkt *p)
{
	union weft_nat_key key;

	if (!p)
		return 0;
	weft_nat_fill(&key, p->family, WEFT_NAT_IN, &p->src, &p->dst, p->sport, p->dport, p->proto);
	return weft_nat_leave(&key, p->family);
}

/*
 * The translation of a packet that comes from elsewhere, entered if it opens a flow
 * to a pod's port; NULL: it has none, and must be dropped if reason is not 0.
 */
static __always_inline struct weft_nat *weft_port_way(struct weft_pkt *p, const __u8 family,
						      int *reason)
{
	struct weft_nat *n = weft_nat_of(p, family, WEFT_NAT_IN);
	int opened;

	if (n && !weft_port_stands(n)) {
		weft_port_gone(p);
		n = NULL;
	}
	if (n || !weft_opens(p) || !weft_ports_any())
		return n;
	opened = weft_port_open(p);
	if (opened) {
		*reason = opened > 0 ? opened : 0;
		return NULL;
	}
	weft_port_note(p);
	return weft_nat_of(p, family, WEFT_NAT_IN);
}

/* A reset is no answer: a scan of closed ports would keep its keys. */
static __always_inline void weft_port_answered(const struct weft_pkt *p, struct weft_nat *n)
{
	if (!(p->tcp & TCP_RST))
		n->flags &= ~WEFT_NAT_ASKED;
}

/* Whether the packet, on its way to a pod, came by a port of the host's. */
__noinline int weft_port_came(struct weft_pkt *p)
{
	union weft_nat_key key;

	if (!p || !weft_ports_any())
		return 0;
	weft_nat_fill(&key, p->family, WEFT_NAT_OUT, &p->dst, &p->src, p->dport, p->sport,
		      p->proto);
	return weft_nat_find(&key, p->family) != NULL;
}

/*
 * To be called for a packet that came so and was refused, and of whose flow conntrack
 * knows nothing: then nothing ends its keys but their age.
 */
__noinline int weft_port_refused(struct weft_pkt *p)
{
	union weft_nat_key key;

	if (!p)
		return 0;
	weft_nat_fill(&key, p->family, WEFT_NAT_OUT, &p->dst, &p->src, p->dport, p->sport,
		      p->proto);
	return weft_nat_leave(&key, p->family);
}
