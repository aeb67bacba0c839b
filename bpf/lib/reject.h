/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells a pod at once that nobody serves what it called: a reset for TCP (RFC 9293,
 * 3.10.7.1), else an ICMP error "port unreachable" (RFC 1122, 3.2.2.1; RFC 4443,
 * 3.1). The refused packet itself becomes the answer, and goes back into the pod. So
 * does one that is too big for the tunnel, where the stack would not tell.
 */
#pragma once

#include "natwrite.h"
#include "proxy.h"
#include "tunnel.h"

struct weft_tcphdr {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 doff;
	__u8 flags;
	__be16 window;
	__sum16 csum;
	__be16 urgent;
};

struct weft_icmphdr {
	__u8 type;
	__u8 code;
	__sum16 csum;
	__be32 info; /* "too big": the MTU that passes */
};

#define WEFT_QUOTE 8 /* bytes of the transport that an error quotes */

static __always_inline __sum16 weft_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(__u16)sum;
}

static __always_inline __u64 weft_sum(const void *data, __u32 len, __u64 seed)
{
	return (__u32)bpf_csum_diff(NULL, 0, (__be32 *)data, len, (__u32)seed);
}

/* The pseudo header, the other way round: sums do not see the order. */
static __always_inline __u64 weft_sum_pseudo(struct weft_pkt *p, const __u8 family, __u8 proto,
					     __u32 len)
{
	__u64 sum = bpf_htonl((__u32)proto + len);

	if (family == 4)
		return sum + p->src.v4 + p->dst.v4;
	for (int i = 0; i < 4; i++)
		sum += (__u64)p->src.w[i] + p->dst.w[i];
	return (sum & 0xffffffff) + (sum >> 32);
}

/* The Ethernet and IP headers of an answer of len bytes after them. */
static __always_inline bool weft_reject_head(struct __sk_buff *ctx, struct weft_pkt *p,
					     const struct weft_ep_row *own, const __u8 family,
					     __u8 proto, __u32 len)
{
	struct weft_eth eth = {
		.proto = family == 4 ? bpf_htons(ETH_IP4) : bpf_htons(ETH_IP6),
	};

	weft_memcpy(eth.dst, own->mac, 6);
	weft_memcpy(eth.src, own->host_mac, 6);
	if (bpf_skb_store_bytes(ctx, 0, &eth, sizeof(eth), 0))
		return false;
	if (family == 4) {
		struct weft_iphdr ip = {
			.vihl = 0x45,
			.tot_len = bpf_htons(IP4_LEN + len),
			.ttl = 64,
			.proto = proto,
			.src = p->dst.v4,
			.dst = p->src.v4,
		};

		ip.csum = weft_fold(weft_sum(&ip, sizeof(ip), 0));
		return !bpf_skb_store_bytes(ctx, ETH_LEN, &ip, sizeof(ip), 0);
	}
	struct weft_ip6hdr ip = {
		.vtcfl = bpf_htonl(6 << 28),
		.payload_len = bpf_htons(len),
		.nexthdr = proto,
		.hop_limit = 64,
	};

	weft_memcpy(ip.src, &p->dst, 16);
	weft_memcpy(ip.dst, &p->src, 16);
	return !bpf_skb_store_bytes(ctx, ETH_LEN, &ip, sizeof(ip), 0);
}

static __always_inline bool weft_reset(struct __sk_buff *ctx, struct weft_pkt *p,
				       const struct weft_ep_row *own, const __u8 family)
{
	const __u32 off = ETH_LEN + (family == 4 ? IP4_LEN : IP6_LEN);
	struct weft_tcphdr h, rst = {.doff = 5 << 4, .flags = TCP_RST};
	__u32 len;

	if (p->l4_off != off || !weft_load(ctx, off, &h, sizeof(h)))
		return false;
	rst.sport = h.dport;
	rst.dport = h.sport;
	if (h.flags & TCP_ACK) {
		rst.seq = h.ack;
	} else {
		len = p->len - off - (h.doff >> 4) * 4;
		len += !!(h.flags & TCP_SYN) + !!(h.flags & TCP_FIN);
		rst.ack = bpf_htonl(bpf_ntohl(h.seq) + len);
		rst.flags |= TCP_ACK;
	}
	rst.csum = weft_fold(
		weft_sum(&rst, sizeof(rst), weft_sum_pseudo(p, family, PROTO_TCP, sizeof(rst))));
	return !bpf_skb_change_tail(ctx, off + sizeof(rst), 0) &&
	       weft_reject_head(ctx, p, own, family, PROTO_TCP, sizeof(rst)) &&
	       !bpf_skb_store_bytes(ctx, off, &rst, sizeof(rst), 0);
}

static __always_inline bool weft_error(struct __sk_buff *ctx, struct weft_pkt *p,
				       const struct weft_ep_row *own, const __u8 family, __u8 type,
				       __u8 code, __u32 info)
{
	const __u32 head = family == 4 ? IP4_LEN : IP6_LEN;
	const __u32 len = sizeof(struct weft_icmphdr) + head + WEFT_QUOTE;
	const __u8 proto = family == 4 ? PROTO_ICMP : PROTO_ICMP6;
	struct {
		struct weft_icmphdr icmp;
		__u8 quote[IP6_LEN + WEFT_QUOTE];
	} e;

	weft_memset(&e, 0, sizeof(e));
	if (p->l4_off != ETH_LEN + head || !weft_load(ctx, ETH_LEN, e.quote, head + WEFT_QUOTE))
		return false;
	e.icmp.type = type;
	e.icmp.code = code;
	e.icmp.info = bpf_htonl(info);
	e.icmp.csum = weft_fold(
		weft_sum(&e, len, family == 4 ? 0 : weft_sum_pseudo(p, family, proto, len)));
	return !bpf_skb_change_tail(ctx, ETH_LEN + head + WEFT_QUOTE, 0) &&
	       !bpf_skb_adjust_room(ctx, head + sizeof(e.icmp), BPF_ADJ_ROOM_MAC, 0) &&
	       weft_reject_head(ctx, p, own, family, proto, len) &&
	       !bpf_skb_store_bytes(ctx, ETH_LEN + head, &e, len, 0);
}

/*
 * Answers for whom the pod called. Packets that need no answer, or cannot be
 * answered (IP options, extension headers, later fragments), are dropped. Gives the
 * verdict.
 */
__noinline int weft_reject(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *own;
	bool done;

	if (!p || p->frag == WEFT_FRAG_LATER || (p->tcp & TCP_RST))
		return TC_ACT_SHOT;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return TC_ACT_SHOT;
	if (p->family == 4)
		done = p->proto == PROTO_TCP ? weft_reset(ctx, p, own, 4)
					     : weft_error(ctx, p, own, 4, 3, 3, 0);
	else
		done = p->proto == PROTO_TCP ? weft_reset(ctx, p, own, 6)
					     : weft_error(ctx, p, own, 6, 1, 4, 0);
	return done ? bpf_redirect_peer(ctx->ifindex, 0) : TC_ACT_SHOT;
}

/*
 * Whether the sender of a packet that was dropped for that reason is told so at once.
 * The proxy always is: its own client waits for it.
 */
static __always_inline bool weft_tells(const struct weft_pkt *p, int reason)
{
	return p->passed || reason == WEFT_DROP_NO_BACKEND || reason == WEFT_DROP_PROXY_NOT_READY ||
	       reason == WEFT_DROP_NEEDS_PROXY || reason == WEFT_DROP_PROXY_CLASH;
}

/* Through the tunnel to the node that the refused packet came from. */
static __always_inline int weft_reject_tunnel(struct __sk_buff *ctx, struct weft_pkt *p,
					      const struct weft_ep_row *own)
{
	struct weft_tunnel_row *t = weft_tunnel_get();

	if (!t || weft_tunnel_key(ctx, p->node, own->identity))
		return TC_ACT_SHOT;
	ctx->mark = WEFT_MARK_TUNNEL;
	return bpf_redirect(t->ifindex, 0);
}

/*
 * Resets a connection of somebody else than the pod at whose device the packet is: of
 * another node, of the host's own sockets or of the proxy's, which hear it by the mark
 * also where the address is not the host's. Gives the verdict.
 */
__noinline int weft_reject_back(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_ep_row *own;
	bool done;

	if (!p || p->proto != PROTO_TCP || p->frag || (p->tcp & TCP_RST))
		return TC_ACT_SHOT;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return TC_ACT_SHOT;
	done = p->family == 4 ? weft_reset(ctx, p, own, 4) : weft_reset(ctx, p, own, 6);
	if (!done)
		return TC_ACT_SHOT;
	if (weft_cfg.tunnel_port && p->wire)
		return weft_reject_tunnel(ctx, p, own);
	return weft_proxy_turn(ctx, ctx->ingress_ifindex ? 0 : WEFT_MARK_PROXY);
}

/*
 * Tells a pod what the tunnel takes (RFC 1191, 4; RFC 4443, 3.2), also where it let
 * others cut the packet in pieces: nobody would. Gives the verdict.
 */
__noinline int weft_too_big(struct __sk_buff *ctx, struct weft_pkt *p)
{
	struct weft_tunnel_row *t = weft_tunnel_get();
	struct weft_ep_row *own;
	bool done;

	if (!p || !t || p->frag == WEFT_FRAG_LATER)
		return TC_ACT_SHOT;
	own = weft_ep_get(p->own_slot);
	if (!own)
		return TC_ACT_SHOT;
	done = p->family == 4 ? weft_error(ctx, p, own, 4, 3, 4, t->mtu)
			      : weft_error(ctx, p, own, 6, 2, 0, t->mtu);
	return done ? bpf_redirect_peer(ctx->ifindex, 0) : TC_ACT_SHOT;
}
