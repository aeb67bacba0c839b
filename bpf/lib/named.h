/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* By which service a packet was sent: its socket knows. */
#pragma once

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

/* Names the service of a flow that the packet opens. */
static __noinline int weft_ct_service(struct __sk_buff *ctx, const struct weft_pkt *p,
				      struct weft_ct *ct)
{
	struct weft_pair *pair = weft_pair_of(ctx, p);

	if (pair) {
		ct->service = pair->service;
		ct->backend = pair->backend;
	}
	return 0;
}
