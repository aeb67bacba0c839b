/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a socket still waits for a backend that is gone, and its end. */
#pragma once

#include "sock.h"

#define WEFT_AF_INET 2
#define WEFT_AF_INET6 10

/* States of a socket; a connected UDP socket counts as established. */
#define WEFT_ESTABLISHED 1
#define WEFT_SYN_SENT 2
#define WEFT_FIN_WAIT1 4
#define WEFT_FIN_WAIT2 5

/* Since 6.5; where it is missing, its address is 0 and nothing is done. */
extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;

/*
 * Whether a socket waits for its peer. One whose peer has closed does not: what
 * it has received is still to be read. Nor does a UDP socket without a peer: its
 * next message chooses another backend.
 */
static __always_inline bool weft_sock_waits(const struct sock_common *sk)
{
	__u8 state = sk->skc_state;

	return state == WEFT_ESTABLISHED || state == WEFT_SYN_SENT || state == WEFT_FIN_WAIT1 ||
	       state == WEFT_FIN_WAIT2;
}

/* The peer of a socket, ::ffff:a.b.c.d as IPv4. */
static __always_inline bool weft_sock_peer(const struct sock_common *sk, struct weft_peer *p)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->port = sk->skc_dport;
	p->family = 4;
	if (sk->skc_family == WEFT_AF_INET) {
		p->word[0] = sk->skc_daddr;
		return true;
	}
	if (sk->skc_family != WEFT_AF_INET6)
		return false;
	p->word[0] = sk->skc_v6_daddr.in6_u.u6_addr32[0];
	p->word[1] = sk->skc_v6_daddr.in6_u.u6_addr32[1];
	p->word[2] = sk->skc_v6_daddr.in6_u.u6_addr32[2];
	p->word[3] = sk->skc_v6_daddr.in6_u.u6_addr32[3];
	if (p->word[0] == 0 && p->word[1] == 0 && p->word[2] == bpf_htonl(0xffff)) {
		p->word[0] = p->word[3];
		p->word[2] = p->word[3] = 0;
		return true;
	}
	p->family = 6;
	return true;
}

/* The number of the backend that the socket's peer was chosen as; 0: it was not. */
static __always_inline __u32 weft_sock_backend(struct sock_common *sk, struct weft_sock_row *row)
{
	struct weft_pair_key key = {};
	struct weft_peer peer;
	struct weft_pair *out;

	if (!weft_sock_peer(sk, &peer))
		return 0;
	for (int i = 0; i < WEFT_PAIRS; i++) {
		if (weft_is_back(&row->pair[i], &peer))
			return row->pair[i].backend;
	}
	if (!row->over)
		return 0;
	key.cookie = bpf_get_socket_cookie(sk);
	key.back[0] = peer.addr[0];
	key.back[1] = peer.addr[1];
	key.back_port = peer.port;
	key.family = peer.family;
	out = bpf_map_lookup_elem(&weft_sock_lru, &key);
	return out ? out->backend : 0;
}

static __always_inline bool weft_is_gone(struct sock_common *sk, struct weft_sock_row *row)
{
	__u32 number;

	if (!weft_sock_waits(sk))
		return false;
	number = weft_sock_backend(sk, row);
	return number && !bpf_map_lookup_elem(&weft_backend, &number);
}

/* Ends a socket that its iterator holds locked: its owner gets ECONNABORTED. */
static __always_inline void weft_end(struct sock_common *sk, __u32 kind)
{
	__u64 *count;

	if (bpf_sock_destroy(sk))
		return;
	count = bpf_map_lookup_elem(&weft_sock_ended, &kind);
	if (count)
		*count += 1;
}
