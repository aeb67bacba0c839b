/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The listeners of the proxies: a port for each ruleset, in a block for each proxy. */
#pragma once

#include "leg.h"

/* A port's place in the blocks; more than there are if it is none of the proxy's. */
static __always_inline __u32 weft_proxy_place(__u32 port)
{
	return port - WEFT_PROXY_PORT;
}

static __always_inline bool weft_is_proxy_port(__u32 port)
{
	return weft_proxy_place(port) < WEFT_PROXY_BLOCKS * WEFT_MAX_RULESET;
}

/*
 * Enters a listener, if it is one of a ruleset's. The sockets of several workers with
 * one port have a place each, or the newest would leave nobody when it closes.
 */
static __always_inline void weft_listen_enter(struct bpf_sock_ops *ctx)
{
	__u32 place = weft_proxy_place(ctx->local_port);
	struct weft_proxy_key key = {};
	__u32 a[4];

	if (place >= WEFT_PROXY_BLOCKS * WEFT_MAX_RULESET ||
	    bpf_get_netns_cookie(ctx) != weft_cfg.host_netns)
		return;
	if (ctx->family == AF_INET) {
		if (ctx->local_ip4 != bpf_htonl(0x7f000001))
			return;
		key.family = 4;
	} else {
		a[0] = ctx->local_ip6[0];
		a[1] = ctx->local_ip6[1];
		a[2] = ctx->local_ip6[2];
		a[3] = ctx->local_ip6[3];
		if (a[0] | a[1] | a[2] | (a[3] ^ bpf_htonl(1)))
			return;
		key.family = 6;
	}
	key.block = place / WEFT_MAX_RULESET;
	key.ruleset = place % WEFT_MAX_RULESET + 1;
	for (int i = 0; i < WEFT_PROXY_PLACES; i++) {
		key.place = i;
		if (!bpf_sock_hash_update(ctx, &weft_proxy, &key, BPF_NOEXIST))
			return;
	}
}

/* The connection's addresses as conntrack has them: the caller is the source. */
static __always_inline void weft_lookup_read(struct bpf_sk_lookup *ctx, struct weft_pkt *p)
{
	p->proto = PROTO_TCP;
	p->sport = ctx->remote_port;
	p->dport = bpf_htons(ctx->local_port);
	if (ctx->family == AF_INET) {
		p->family = 4;
		p->src.v4 = ctx->remote_ip4;
		p->dst.v4 = ctx->local_ip4;
		return;
	}
	p->family = 6;
	p->src.w[0] = ctx->remote_ip6[0];
	p->src.w[1] = ctx->remote_ip6[1];
	p->src.w[2] = ctx->remote_ip6[2];
	p->src.w[3] = ctx->remote_ip6[3];
	p->dst.w[0] = ctx->local_ip6[0];
	p->dst.w[1] = ctx->local_ip6[1];
	p->dst.w[2] = ctx->local_ip6[2];
	p->dst.w[3] = ctx->local_ip6[3];
}

/*
 * The flow of a call, if it came so far by a device: of a client to the proxy, or, if there
 * is none, of the proxy to itself.
 */
static __always_inline struct weft_ct *weft_lookup_flow(struct weft_pkt *p)
{
	struct weft_ct *ct, *own;
	union weft_ct_key key;
	bool answered;

	weft_memset(&key, 0, sizeof(key));
	p->src_b = weft_ct_fill(&key, p->family, &p->src, &p->dst, p->sport, p->dport, p->proto);
	ct = weft_leg_find(p, &key, false, 0, &answered);
	if (ct && !weft_ct_ended(ct))
		return ct;
	own = weft_leg_find(p, &key, true, 0, &answered);
	return own && !weft_ct_ended(own) ? own : ct;
}

/* The ruleset of whose listener the connection is; 0: of none; -1: it must find nobody. */
__noinline int weft_lookup_ruleset(struct weft_pkt *p)
{
	struct weft_ct *ct;
	struct weft_ip src, dst;

	if (!p)
		return -1;
	ct = weft_lookup_flow(p);
	if (ct && ct->ruleset)
		return (ct->flags & WEFT_CT_UPSTREAM) || weft_ct_reply(p, ct) ? -1 : ct->ruleset;
	/* Its flow is gone, or was never there: an ordinary listener must not get it. */
	weft_ip_get(p->family, &p->src, &src);
	weft_ip_get(p->family, &p->dst, &dst);
	if (dst.slot || (src.slot && dst.identity != WEFT_ID_HOST && !weft_at_home(&p->dst)))
		return -1;
	return 0;
}

static __always_inline int weft_lookup_choose(struct bpf_sk_lookup *ctx)
{
	struct weft_pkt p;
	struct bpf_sock *sk;
	int ruleset;
	long err;

	weft_memset(&p, 0, sizeof(p));
	weft_lookup_read(ctx, &p);
	ruleset = weft_lookup_ruleset(&p);
	if (ruleset < 0)
		return SK_DROP;
	if (!ruleset)
		return weft_is_proxy_port(ctx->local_port) ? SK_DROP : SK_PASS;
	sk = weft_proxy_find(ruleset, p.family);
	if (!sk)
		return SK_DROP;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

/* Whether the caller is of a proxy's group. */
static __always_inline bool weft_is_proxy_task(__u64 want)
{
	__u64 group;

	for (int i = 1; i <= WEFT_CGROUP_DEPTH; i++) {
		group = bpf_get_current_ancestor_cgroup_id(i);
		if (!group)
			break;
		if (group == want)
			return true;
	}
	return false;
}

/*
 * Nobody but the proxy of the block has its ports in the host's network namespace, and
 * nobody at all while it is not known: who listened then would never be found.
 */
static __always_inline int weft_bind_allowed(struct bpf_sock_addr *ctx)
{
	__u32 port = bpf_ntohs(ctx->user_port);
	struct weft_l7_row *l7;
	__u64 group;

	if (!weft_is_proxy_port(port))
		return WEFT_ALLOW;
	l7 = weft_l7_get();
	if (!l7 || !l7->active || bpf_get_netns_cookie(ctx) != weft_cfg.host_netns)
		return WEFT_ALLOW;
	group = weft_proxy_place(port) < WEFT_MAX_RULESET ? l7->cgroup[0] : l7->cgroup[1];
	return weft_is_proxy_task(group) ? WEFT_ALLOW : WEFT_REFUSE;
}
