/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The calls of a process: services are translated when a socket connects or
 * sends without a connection, so that no packet ever bears a service's address.
 * What the process is told of its peer is translated back.
 */
#include "lib/flow.h"
#include "lib/tunnel.h"

#define WEFT_ALLOW 1
#define WEFT_REFUSE 0
#define WEFT_ECONNREFUSED 111
#define PROTO_MPTCP 262

/* The protocol as a service knows it; 0: none that has services. */
static __always_inline __u8 weft_sock_proto(struct bpf_sock_addr *ctx)
{
	switch (ctx->protocol) {
	case PROTO_TCP:
	case PROTO_MPTCP:
		return PROTO_TCP;
	case PROTO_UDP:
		return PROTO_UDP;
	}
	return 0;
}

static __always_inline int weft_sock_refuse(void)
{
	if (weft_cfg.set_retval)
		bpf_set_retval(-WEFT_ECONNREFUSED);
	return WEFT_REFUSE;
}

/*
 * A socket is about to connect, or to send a message to an address. A message
 * goes where earlier ones of this socket to the same service went.
 */
static __always_inline int weft_sock_out(struct bpf_sock_addr *ctx, int family, bool message)
{
	struct bpf_sock *sk = ctx->sk;
	struct weft_peer front, back = {};
	struct weft_sock_row *row;
	__u32 number = 0;
	__u8 proto = weft_sock_proto(ctx);

	if (!proto || !sk)
		return WEFT_ALLOW;
	weft_peer_read(ctx, family, &front);
	struct weft_svc *svc = weft_svc_find(&front, proto);
	if (!svc)
		return WEFT_ALLOW;
	/*
	 * A port of the host's. Another namespace has a loopback of its own, and perhaps no
	 * way to pods: its packets are translated where they come to the host.
	 */
	if (svc->flags && bpf_get_netns_cookie(ctx) != weft_cfg.host_netns)
		return WEFT_ALLOW;
	if (message) {
		row = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
		if (row && weft_pair_again(row, &front, &back)) {
			weft_peer_write(ctx, family, &back);
			return WEFT_ALLOW;
		}
	}
	struct weft_backend_row *b = weft_choose(bpf_get_netns_cookie(ctx), svc, &number);
	if (!b)
		return weft_sock_refuse();
	__builtin_memcpy(back.addr, b->addr, sizeof(back.addr));
	back.port = b->port;
	back.family = b->family;

	/* Without memory for the pair the answer would come from a stranger. */
	row = bpf_sk_storage_get(&weft_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!row)
		return weft_sock_refuse();
	struct weft_pair pair = {
		.front = {front.addr[0], front.addr[1]},
		.back = {back.addr[0], back.addr[1]},
		.front_port = front.port,
		.back_port = back.port,
		.service = svc->service,
		.backend = number,
		.family = front.family,
	};
	weft_pair_keep(ctx, row, &front, &back, &pair);
	weft_hit(svc->service, number);
	weft_peer_write(ctx, family, &back);
	return WEFT_ALLOW;
}

/* Whether an address is an end of the tunnel: a node's, the host's, or its loopback. */
__noinline int weft_sock_is_end(struct weft_peer *at)
{
	union weft_addr addr;
	struct weft_ip ip;

	if (!at)
		return 0;
	addr.d[0] = at->addr[0];
	addr.d[1] = at->addr[1];
	if (at->family == 4 ? !addr.v4 || addr.b[0] == 127
			    : !addr.d[0] && !addr.w[2] && bpf_ntohl(addr.w[3]) <= 1)
		return 1;
	weft_ip_get(at->family, &addr, &ip);
	return ip.identity == WEFT_ID_HOST || weft_is_node(ip.identity) || weft_at_home(&addr);
}

/* As weft_sock_out, but nobody's socket may speak to the tunnel itself. */
static __always_inline int weft_sock_call(struct bpf_sock_addr *ctx, int family, bool message)
{
	int verdict = weft_sock_out(ctx, family, message);
	struct weft_peer to;

	if (!weft_cfg.tunnel_port || verdict != WEFT_ALLOW || ctx->protocol != PROTO_UDP)
		return verdict;
	weft_peer_read(ctx, family, &to);
	if (to.port != bpf_htons(weft_cfg.tunnel_port) || !weft_sock_is_end(&to))
		return verdict;
	weft_count(WEFT_DROP_TUNNEL_PORT, WEFT_EGRESS, 1, 0);
	return weft_sock_refuse();
}

/* A process is about to be told whom it talks to, or whom a message is from. */
static __always_inline int weft_sock_in(struct bpf_sock_addr *ctx, int family)
{
	struct bpf_sock *sk = ctx->sk;
	struct weft_peer p;

	if (!sk)
		return WEFT_ALLOW;
	struct weft_sock_row *row = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	if (!row)
		return WEFT_ALLOW;
	weft_peer_read(ctx, family, &p);
	if (weft_pair_reverse(ctx, row, &p))
		weft_peer_write(ctx, family, &p);
	return WEFT_ALLOW;
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	return weft_sock_call(ctx, 4, false);
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	return weft_sock_call(ctx, 6, false);
}

SEC("cgroup/sendmsg4")
int weft_sendmsg4(struct bpf_sock_addr *ctx)
{
	return weft_sock_call(ctx, 4, true);
}

SEC("cgroup/sendmsg6")
int weft_sendmsg6(struct bpf_sock_addr *ctx)
{
	return weft_sock_call(ctx, 6, true);
}

SEC("cgroup/recvmsg4")
int weft_recvmsg4(struct bpf_sock_addr *ctx)
{
	return weft_sock_in(ctx, 4);
}

SEC("cgroup/recvmsg6")
int weft_recvmsg6(struct bpf_sock_addr *ctx)
{
	return weft_sock_in(ctx, 6);
}

SEC("cgroup/getpeername4")
int weft_peername4(struct bpf_sock_addr *ctx)
{
	return weft_sock_in(ctx, 4);
}

SEC("cgroup/getpeername6")
int weft_peername6(struct bpf_sock_addr *ctx)
{
	return weft_sock_in(ctx, 6);
}
