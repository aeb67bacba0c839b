/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The proxy's packets where no pod's device is: what its sockets send to other nodes and
 * the world bears a pod's address, and what comes for them is routed to that pod.
 */
#pragma once

#include "ctnew.h"
#include "deliver.h"
#include "leg.h"

/*
 * Follows a packet that a socket of the proxy's sends, as if it came from the device of
 * the pod whose address it bears. WEFT_PASSED: it did, and p->own_slot is the pod's;
 * WEFT_AS_IS: it is no such packet.
 */
__noinline int weft_proxy_follow(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *own;
	union weft_ct_key key;
	struct weft_ct *ct;
	struct weft_ip ip;
	bool answered, reply;
	__u32 passed;

	weft_memset(&key, 0, sizeof(key));
	if (!p)
		return WEFT_AS_IS;
	weft_ip_get(p->family, &p->src, &ip);
	own = ip.slot ? weft_ep_get(ip.slot) : NULL;
	if (!own)
		return WEFT_AS_IS;
	passed = weft_proxy_passed(ctx);
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_leg_find(p, &key, true, passed, &answered);
	if (!passed && !(ct && ct->ruleset))
		return WEFT_AS_IS;
	p->own_slot = ip.slot;
	p->ident[0] = own->identity;
	if (!ct || !answered)
		return WEFT_UNDECIDED;
	reply = weft_ct_reply(p, ct);
	if (weft_ct_fresh(p, ct, reply) || weft_proxy_strange(p, ct, true) ||
	    !weft_ct_holds(ctx, p, own, WEFT_EGRESS, ct, reply))
		return WEFT_UNDECIDED;
	weft_ct_seen(p, ct, reply);
	if (weft_cfg.tunnel_port)
		p->node = weft_ct_node(p, ct, reply);
	return WEFT_PASSED;
}

/*
 * The same, and decides the flow if need be; else gives the reason to drop the packet. from: the
 * device it came in by, read once, or compilers keep its place, which verifiers refuse.
 */
static __always_inline int weft_proxy_out(struct __sk_buff *ctx, struct weft_pkt *p, __u32 from)
{
	int reason;

	if (from || p->proto != PROTO_TCP || p->frag || !weft_l7_active())
		return WEFT_AS_IS;
	reason = weft_proxy_follow(ctx, p);
	return reason == WEFT_UNDECIDED ? weft_ct_slow(ctx, p) : reason;
}

/*
 * Whether the host has a socket for the packet, and be it one that only waits for its
 * time to end: the stack would find it on its own, and then not forward the packet.
 */
static __always_inline bool weft_proxy_has(struct __sk_buff *ctx, const struct weft_pkt *p)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	__u32 len = sizeof(t.ipv4);
	bool found;

	if (p->family == 4) {
		t.ipv4.saddr = p->src.v4;
		t.ipv4.daddr = p->dst.v4;
		t.ipv4.sport = p->sport;
		t.ipv4.dport = p->dport;
	} else {
		weft_memcpy(t.ipv6.saddr, &p->src, 16);
		weft_memcpy(t.ipv6.daddr, &p->dst, 16);
		t.ipv6.sport = p->sport;
		t.ipv6.dport = p->dport;
		len = sizeof(t.ipv6);
	}
	sk = bpf_skc_lookup_tcp(ctx, &t, len, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	found = sk->state != BPF_TCP_LISTEN;
	bpf_sk_release(sk);
	return found;
}

/*
 * Whether a packet of the host's own, of no answered flow, is for a socket of the proxy:
 * what that sends to the host itself passes no device, so that conntrack never saw it.
 * The answer to a call is of an unanswered flow, and not for a socket of the proxy that
 * had the client's port before and waits for its time to end.
 */
__noinline int weft_proxy_called(struct __sk_buff *ctx, struct weft_pkt *p)
{
	union weft_ct_key key;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	if (!p || ctx->ingress_ifindex || p->proto != PROTO_TCP || !(p->tcp & TCP_ACK) || p->frag ||
	    !weft_l7_active())
		return 0;
	weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	if (weft_ct_any(&key, p->family, &answered))
		return 0;
	weft_ct_aside(&key, p->family, 1);
	return !weft_ct_any(&key, p->family, &answered) && weft_proxy_has(ctx, p);
}

/*
 * What came in by an uplink for a socket of the proxy goes to the device of the pod that
 * it is addressed to, past the stack, and there is decided and handed over as any other.
 */
__noinline int weft_proxy_in(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *ep;
	union weft_ct_key key;
	struct weft_ct *ct;
	struct weft_ip ip;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	if (!p)
		return WEFT_PASSED;
	weft_ip_get(p->family, &p->dst, &ip);
	ep = ip.slot ? weft_ep_get(ip.slot) : NULL;
	if (!ep)
		return WEFT_PASSED;
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_leg_find(p, &key, false, 0, &answered);
	if (!(ct && ct->ruleset) && !(weft_proxy_opens(p) && weft_proxy_has(ctx, p)))
		return WEFT_PASSED;
	if (p->ttl <= 1 || !weft_fits(ctx, p, ep->mtu))
		return WEFT_PASSED;
	if (!weft_hop(ctx, p, ep))
		return WEFT_DROP_REDIRECT;
	return bpf_redirect(ep->ifindex, 0) == TC_ACT_REDIRECT ? WEFT_SENT_ON : WEFT_DROP_REDIRECT;
}
