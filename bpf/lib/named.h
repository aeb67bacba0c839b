/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* By which service a packet was sent: its socket knows. */
#pragma once

#include "nat.h"
#include "sock.h"

/*
 * The pair that the packet's socket was translated by, if it was. The socket is
 * known on a packet that no other stack has received in between: one of the pod
 * that sends, or of the host itself.
 */
static __always_inline struct weft_pair *weft_pair_of(struct __sk_buff *ctx,
						      const struct weft_pkt *p)
{
	struct bpf_sock *sk = (struct bpf_sock *)ctx->sk;
	struct weft_sock_row *row;

	if (!sk || (p->hook == WEFT_INGRESS && ctx->ingress_ifindex))
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	row = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	if (!row)
		return NULL;
	for (int i = 0; i < WEFT_PAIRS; i++) {
		struct weft_pair *a = &row->pair[i];
		if (a->family == p->family && a->back[0] == p->dst.d[0] &&
		    a->back[1] == p->dst.d[1] && a->back_port == p->dport)
			return a;
	}
	return NULL;
}

/* A service and its backend by their numbers. */
struct weft_names {
	__u32 service; /* 0: none */
	__u32 backend;
};

/* The translation of a packet that called a service by itself, or NULL. */
static __always_inline struct weft_nat *weft_called_by(const struct weft_pkt *p)
{
	union weft_nat_key key;

	if (p->family == 4) {
		weft_nat_answer_key(&key, p, 4);
		return weft_nat_find(&key, 4);
	}
	weft_nat_answer_key(&key, p, 6);
	return weft_nat_find(&key, 6);
}

/*
 * Names the service that a packet was sent by, as far as is known. Global, so that
 * the verifier looks at it once and not on each of its callers' ways.
 */
__noinline int weft_name(struct __sk_buff *ctx, struct weft_pkt *p, struct weft_names *names)
{
	struct weft_pair *pair;
	struct weft_nat *n;

	if (!p || !names)
		return 0;
	names->service = names->backend = 0;
	if (weft_unlikely(p->called)) {
		n = weft_called_by(p);
		if (n) {
			names->service = n->service;
			names->backend = n->backend;
		}
		return 0;
	}
	pair = weft_pair_of(ctx, p);
	if (pair) {
		names->service = pair->service;
		names->backend = pair->backend;
	}
	return 0;
}
