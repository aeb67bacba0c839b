/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The steps of a packet at a pod's device, in order. */
#pragma once

#include "ctnew.h"
#include "deliver.h"
#include "frag.h"
#include "icmp.h"
#include "parse.h"
#include "past.h"
#include "proxyway.h"
#include "spoof.h"
#include "svcnat.h"

/* Group reports tell the host nothing it needs, so they are dropped without a word. */
static __always_inline int weft_multicast(struct weft_pkt *p, const __u8 hook, bool group)
{
	if (p->kind == WEFT_ICMP_GROUP || p->proto == PROTO_IGMP)
		group = true;
	else if (p->family == 4)
		group |= bpf_ntohl(p->dst.v4) >> 28 == 0xe || p->dst.v4 == 0xffffffff;
	else
		group |= p->dst.b[0] == 0xff;
	if (weft_likely(!group))
		return WEFT_PASSED;
	p->quiet = hook == WEFT_INGRESS || p->kind == WEFT_ICMP_GROUP || p->proto == PROTO_IGMP;
	return WEFT_DROP_MULTICAST;
}

/* Redirects and router announcements, which no pod may send. */
static __always_inline bool weft_router_talk(const struct weft_pkt *p)
{
	__u8 type = p->icmp >> 8;

	return p->kind && (p->family == 4 ? type == 5 || type == 9 || type == 10 : type == 138);
}

/* The sender's addresses, and what is not for conntrack. */
static __always_inline int weft_admit(struct __sk_buff *ctx, struct weft_pkt *p,
				      const struct weft_ep_row *own, const __u8 hook, bool group)
{
	bool nd = p->family == 6 && p->kind == WEFT_ICMP_ND;
	int reason;

	if (hook == WEFT_EGRESS) {
		reason = p->family == 4 ? weft_spoof_ip4(own, p) : weft_spoof_ip6(own, p);
		if (reason)
			return reason;
		if (nd) {
			reason = weft_spoof_nd(ctx, p);
			return reason ? reason : WEFT_AS_IS;
		}
		if (weft_router_talk(p))
			return WEFT_DROP_UNSUPPORTED_L4;
	} else if (nd && p->ttl == 255 && !p->frag) {
		return WEFT_AS_IS; /* of a neighbour: the host */
	}
	return weft_multicast(p, hook, group);
}

static __always_inline int weft_track(struct __sk_buff *ctx, struct weft_pkt *p,
				      const struct weft_ep_row *own, const __u8 hook,
				      const __u8 family)
{
	union weft_ct_key key;
	struct weft_ct *ct;
	bool reply;
	int reason;

	if (weft_unlikely(p->frag == WEFT_FRAG_LATER)) {
		reason = weft_frag_find(p);
		if (reason)
			return reason;
	}
	if (weft_unlikely(p->kind == WEFT_ICMP_ERROR)) {
		reason = hook == WEFT_EGRESS ? weft_nat_error(ctx, p, WEFT_NAT_FWD) : WEFT_PASSED;
		return reason ? reason : weft_icmp_error(ctx, p);
	}
	if (weft_unlikely(weft_leg_sent(ctx, hook)) && !weft_leg_known(ctx, p, NULL, true))
		return WEFT_PASSED;
	p->src_b = weft_ct_fill(&key, family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_ct_find(&key, family);
	if (weft_likely(ct)) {
		reply = weft_ct_reply(p, ct);
		if (weft_likely(!weft_ct_fresh(p, ct, reply) &&
				weft_ct_holds(ctx, p, own, hook, ct, reply) &&
				!weft_proxy_strange(p, ct, !ctx->ingress_ifindex))) {
			weft_ct_goes(ctx, p, ct, hook, reply);
			return WEFT_PASSED;
		}
	}
	if (p->proto == PROTO_TCP && !weft_proxy_opens(p) && weft_l7_active() &&
	    !weft_leg_known(ctx, p, ct, false))
		return WEFT_PASSED;
	if (hook == WEFT_EGRESS && !ct) {
		reason = weft_svc_call(ctx, p);
		if (reason)
			return reason;
	}
	if (hook == WEFT_INGRESS && !ct && weft_unlikely(weft_proxy_called(ctx, p))) {
		p->proxy = 1;
		return WEFT_PASSED;
	}
	if (weft_cfg.tunnel_port && hook == WEFT_INGRESS) {
		reason = weft_wire_recall(ctx, p);
		if (reason)
			return reason;
	}
	return weft_ct_slow(ctx, p);
}

static __always_inline int weft_ip_packet(struct __sk_buff *ctx, struct weft_pkt *p,
					  const struct weft_ep_row *own, const __u8 hook,
					  const __u8 family, bool group)
{
	int reason;

	p->family = family;
	reason = family == 4 ? weft_parse_ip4(ctx, p) : weft_parse_ip6(ctx, p);
	if (!reason)
		reason = weft_admit(ctx, p, own, hook, group);
	if (!reason)
		reason = weft_track(ctx, p, own, hook, family);
	if (!reason && weft_unlikely(p->frag == WEFT_FRAG_FIRST))
		weft_frag_keep(p);
	return reason;
}

/* Gives WEFT_PASSED, WEFT_AS_IS or the reason to drop the packet. */
static __always_inline int weft_examine(struct __sk_buff *ctx, struct weft_pkt *p, const __u8 hook)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct weft_eth *eth = data;
	struct weft_ep_row *own;
	bool group;
	int reason;

	own = weft_ep_of(ctx->ifindex, &p->own_slot);
	if (!own)
		return WEFT_DROP_NO_ENDPOINT;
	if (hook == WEFT_EGRESS)
		p->ident[0] = own->identity;
	else
		p->ident[1] = own->identity;
	if (weft_unlikely(data + WEFT_LINEAR > end && (__u32)(end - data) < p->len)) {
		bpf_skb_pull_data(ctx, p->len < WEFT_LINEAR ? p->len : WEFT_LINEAR);
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		eth = data;
	}
	if ((void *)(eth + 1) > end)
		return WEFT_DROP_MALFORMED;
	if (hook == WEFT_EGRESS && !weft_same_mac(eth->src, own->mac))
		return WEFT_DROP_SPOOFED_MAC;
	if (ctx->vlan_present)
		return WEFT_DROP_UNSUPPORTED_L3;
	group = eth->dst[0] & 1;
	switch (eth->proto) {
	case bpf_htons(ETH_IP4):
		return weft_ip_packet(ctx, p, own, hook, 4, group);
	case bpf_htons(ETH_IP6):
		return weft_ip_packet(ctx, p, own, hook, 6, group);
	case bpf_htons(ETH_ARP):
		reason = hook == WEFT_EGRESS ? weft_spoof_arp(ctx, own) : WEFT_PASSED;
		return reason ? reason : WEFT_AS_IS;
	}
	return WEFT_DROP_UNSUPPORTED_L3;
}
