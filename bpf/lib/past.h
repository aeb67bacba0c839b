/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Past the host's stack: from a pod straight to an uplink, and from there into a pod. */
#pragma once

#include "ctnew.h"
#include "deliver.h"
#include "route.h"

/*
 * A packet that may go, to the uplink to which its route leads: WEFT_SENT_ON, WEFT_PASSED
 * if it is for the stack, or the reason to drop it. The kernel's neighbours are asked
 * again by what sends it, so that their state moves as if the stack had sent it; where
 * there is none yet the stack looks for it, and tells the pod if nobody answers.
 */
static __noinline int weft_past_send(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct bpf_redir_neigh hop;
	struct weft_route_row *row;
	__u32 ifindex;

	if (!weft_is_plain(ctx, p))
		return WEFT_PASSED;
	row = weft_route(ctx, p, ctx->ifindex, true);
	if (!row || weft_wire_size(ctx, p) > row->mtu)
		return WEFT_PASSED;
	ifindex = row->ifindex;
	hop.nh_family = row->family;
	weft_memcpy(hop.ipv6_nh, row->hop, 16);
	if (!weft_hop(ctx, p, NULL))
		return WEFT_DROP_REDIRECT;
	ctx->mark = WEFT_MARK_INSIDE;
	return bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0) == TC_ACT_REDIRECT
		       ? WEFT_SENT_ON
		       : WEFT_DROP_REDIRECT;
}

/*
 * Whether a packet can go into the pod without the stack, and came by the device to which
 * the way back leads: as a strict rp_filter, whatever that of the device is set to.
 */
static __always_inline bool weft_past_may(struct __sk_buff *ctx, struct weft_pkt *p,
					  const struct weft_ep_row *own)
{
	struct weft_route_row *row;

	if (!weft_fits(ctx, p, own->mtu))
		return false;
	row = weft_route(ctx, p, own->ifindex, false);
	return row && row->ifindex == ctx->ifindex;
}

/*
 * A packet without a decision that stands: whether policy is to be asked about it here.
 * Nobody's but another node's pods: all other senders the stack looks at first.
 */
__noinline int weft_past_new(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *own;
	struct weft_ip ip;

	/* What may be for the proxy is decided, and answered, at the pod's device. */
	if (!p || (p->proto == PROTO_TCP && weft_l7_active()))
		return WEFT_AS_IS;
	weft_ip_get(p->family, &p->dst, &ip);
	own = ip.slot ? weft_ep_get(ip.slot) : NULL;
	if (!own)
		return WEFT_AS_IS;
	p->own_slot = ip.slot;
	p->ident[1] = own->identity;
	weft_ip_get(p->family, &p->src, &ip);
	if (ip.slot || !weft_is_elsewhere(ip.identity) || !weft_past_may(ctx, p, own))
		return WEFT_AS_IS;
	return WEFT_PASSED;
}

static __always_inline int weft_past_into(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	struct weft_ep_row *ep = weft_ep_get(p->own_slot);
	__u32 ifindex;

	if (!ep)
		return WEFT_DROP_REDIRECT;
	ifindex = ep->ifindex;
	if (!weft_hop(ctx, p, ep))
		return WEFT_DROP_REDIRECT;
	return bpf_redirect_peer(ifindex, 0) == TC_ACT_REDIRECT ? -TC_ACT_REDIRECT
								: WEFT_DROP_REDIRECT;
}

/* A packet of a flow whose decision stands; WEFT_UNDECIDED: it is of none. */
static __always_inline int weft_past_flow(struct __sk_buff *ctx, struct weft_pkt *p,
					  const __u8 family)
{
	struct weft_ep_row *own;
	union weft_ct_key key;
	struct weft_ct *ct;
	bool reply;

	p->src_b = weft_ct_fill(&key, family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_ct_find(&key, family);
	if (weft_unlikely(!ct))
		return WEFT_UNDECIDED;
	reply = weft_ct_reply(p, ct);
	p->own_slot = ct->slot[reply ? 0 : 1];
	own = weft_ep_get(p->own_slot);
	if (weft_unlikely(!own || weft_ct_fresh(p, ct, reply) ||
			  !weft_ct_holds(ctx, p, own, WEFT_INGRESS, ct, reply)))
		return WEFT_UNDECIDED;
	weft_ct_way(p, ct, WEFT_INGRESS, reply);
	if (!p->direct || !weft_past_may(ctx, p, own))
		return WEFT_AS_IS;
	weft_ct_seen(p, ct, reply);
	return weft_past_into(ctx, p);
}

/* Apart, as stack is short. */
static __noinline int weft_past_known(struct __sk_buff *ctx, struct weft_pkt *p)
{
	return p->family == 4 ? weft_past_flow(ctx, p, 4) : weft_past_flow(ctx, p, 6);
}

/*
 * A packet that came by an uplink, for a pod of this node: -TC_ACT_REDIRECT if it is on
 * its way into the pod, WEFT_AS_IS if it goes on as before, or the reason to drop it.
 */
static __always_inline int weft_past_come(struct __sk_buff *ctx, struct weft_pkt *p)
{
	int reason;

	if (!weft_in_direct(p->family, &p->dst) || !weft_is_plain(ctx, p))
		return WEFT_AS_IS;
	reason = weft_past_known(ctx, p);
	if (weft_likely(reason != WEFT_UNDECIDED))
		return reason;
	reason = weft_past_new(ctx, p);
	if (!reason)
		reason = weft_ct_slow(ctx, p);
	if (reason)
		return reason;
	return p->direct ? weft_past_into(ctx, p) : WEFT_AS_IS;
}
