/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets whose backend is gone, run by the agent when a backend was removed.
 * weft_find_gone looks at every socket that was ever translated, whatever its
 * network namespace; the other two end those of the namespace in which the agent
 * runs them, because only there does the kernel hold a socket's lock.
 */
#include "lib/gone.h"

SEC("iter/bpf_sk_storage_map")
int weft_find_gone(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_sock_row *row = ctx->value;
	struct sock *sk = ctx->sk;
	struct weft_gone found = {};

	if (!bpf_sock_destroy || !sk || !row || !weft_is_gone(&sk->__sk_common, row))
		return 0;
	found.netns = sk->__sk_common.skc_net.net->ns.inum;
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}

SEC("iter/tcp")
int weft_end_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct weft_sock_row *row;

	if (!bpf_sock_destroy || !sk)
		return 0;
	row = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	if (row && weft_is_gone(sk, row))
		weft_end(sk, 0);
	return 0;
}

SEC("iter/udp")
int weft_end_udp(struct bpf_iter__udp *ctx)
{
	struct sock_common *sk = (struct sock_common *)ctx->udp_sk;
	struct weft_sock_row *row;

	if (!bpf_sock_destroy || !sk)
		return 0;
	row = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	if (row && weft_is_gone(sk, row))
		weft_end(sk, 1);
	return 0;
}
