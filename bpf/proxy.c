/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How connections find the proxy: its listeners are known by themselves, the kernel
 * chooses among them when a connection comes, and nobody else gets their ports.
 */
#include "lib/listen.h"

/* A process of the proxy's group has begun to listen. */
SEC("sockops")
int weft_listen(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		weft_listen_enter(ctx);
	return 1;
}

/* A packet has come for which the host has no connection. */
SEC("sk_lookup")
int weft_lookup(struct bpf_sk_lookup *ctx)
{
	if (ctx->protocol != PROTO_TCP || !weft_l7_active())
		return SK_PASS;
	return weft_lookup_choose(ctx);
}

SEC("cgroup/bind4")
int weft_bind4(struct bpf_sock_addr *ctx)
{
	return weft_bind_allowed(ctx);
}

SEC("cgroup/bind6")
int weft_bind6(struct bpf_sock_addr *ctx)
{
	return weft_bind_allowed(ctx);
}
