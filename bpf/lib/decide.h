/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a flow may be: both sides' identities, and the policies of those that are local. */
#pragma once

#include "policy.h"
#include "tunnel.h"

static __always_inline bool weft_has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP;
}

/*
 * Who the other side is. "Host" are the host's own sockets only: what is
 * forwarded with a host's address was translated, and comes from the world. A
 * local pod's address counts only on what came from that pod's device.
 */
static __always_inline int weft_other(struct __sk_buff *ctx, struct weft_pkt *p, struct weft_ip *ip,
				      __u32 *epoch, struct weft_ep_row **row)
{
	bool sent = p->hook == WEFT_EGRESS;
	__u32 from = ctx->ingress_ifindex;

	if (weft_cfg.tunnel_port && p->wire) { /* it was seen who that is */
		ip->identity = p->ident[0];
		ip->slot = 0;
		ip->node = p->node;
		*row = NULL;
		return WEFT_PASSED;
	}
	weft_ip_get(p->family, sent ? &p->dst : &p->src, ip);
	*row = ip->slot ? weft_ep_get(ip->slot) : NULL;
	if (*row) {
		*epoch = *(volatile __u32 *)&(*row)->epoch;
		ip->identity = (*row)->identity;
		p->other_slot = ip->slot;
		if (!sent && from && from != (*row)->ifindex)
			return p->family == 4 ? WEFT_DROP_SPOOFED_IPV4 : WEFT_DROP_SPOOFED_IPV6;
	} else if (ip->slot && sent) {
		p->dir = WEFT_INGRESS;
		return WEFT_DROP_REDIRECT;
	}
	if (!sent && from && ip->identity == WEFT_ID_HOST)
		ip->identity = p->family == 4 ? WEFT_ID_WORLD_IPV4 : WEFT_ID_WORLD_IPV6;
	return WEFT_PASSED;
}

/*
 * Decides in the direction of the initiator, whichever way the packet goes, and
 * writes what was found into ct. Epochs are read before what they vouch for. Global, so
 * that the verifier looks at it once, not for each way that leads here.
 */
__noinline int weft_decide(struct __sk_buff *ctx, struct weft_pkt *p, struct weft_ct *ct,
			   __u32 reply)
{
	struct weft_ep_row *own, *other, *row;
	__u32 own_epoch, own_id, epoch = 0;
	struct weft_ip ip;
	__be16 port = 0;
	bool own_first;
	int reason;

	if (!p || !ct)
		return WEFT_DROP_MALFORMED;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	own_first = (p->hook == WEFT_EGRESS) != !!reply;
	own_epoch = *(volatile __u32 *)&own->epoch;
	own_id = own->identity;
	reason = weft_other(ctx, p, &ip, &epoch, &other);
	if (reason)
		return reason;
	if (weft_cfg.tunnel_port) {
		ct->wire = p->wire;
		ct->node = ip.node;
	}
	ct->epoch[0] = own_first ? own_epoch : epoch;
	ct->epoch[1] = own_first ? epoch : own_epoch;
	ct->identity[0] = own_first ? own_id : ip.identity;
	ct->identity[1] = own_first ? ip.identity : own_id;
	ct->slot[0] = own_first ? p->own_slot : p->other_slot;
	ct->slot[1] = own_first ? p->other_slot : p->own_slot;
	ct->rule[0] = 0;
	ct->rule[1] = 0;
	ct->ruleset = 0;
	ct->passed = 0;
	ct->action = WEFT_ACTION_ALLOW;
	p->ident[0] = p->hook == WEFT_EGRESS ? own_id : ip.identity;
	p->ident[1] = p->hook == WEFT_EGRESS ? ip.identity : own_id;
	if (ct->flags & WEFT_CT_ICMP)
		port = bpf_htons(ct->icmp);
	else if (weft_has_ports(p->proto))
		port = reply ? p->sport : p->dport;

	row = own_first ? own : other;
	if (row) {
		reason = weft_pol_ask(p, row, WEFT_EGRESS, ct->identity[1], port, ct);
		if (reason)
			return reason;
	}
	row = own_first ? other : own;
	if (row)
		return weft_pol_ask(p, row, WEFT_INGRESS, ct->identity[0], port, ct);
	return WEFT_PASSED;
}
