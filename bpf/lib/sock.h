/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket was told and where it really goes. The pairs lie in the socket's
 * own storage: they cannot be evicted, and they end with it. A socket that talks
 * to more services than there is room for pushes its oldest pair out.
 */
#pragma once

#include "service.h"

/* The address of the call, ::ffff:a.b.c.d as IPv4. */
static __always_inline void weft_peer_read(struct bpf_sock_addr *ctx, int family,
					   struct weft_peer *p)
{
	p->port = (__be16)ctx->user_port;
	if (family == 4) {
		p->word[0] = ctx->user_ip4;
		p->word[1] = p->word[2] = p->word[3] = 0;
		p->family = 4;
		return;
	}
	p->word[0] = ctx->user_ip6[0];
	p->word[1] = ctx->user_ip6[1];
	p->word[2] = ctx->user_ip6[2];
	p->word[3] = ctx->user_ip6[3];
	p->family = 6;
	if (p->word[0] == 0 && p->word[1] == 0 && p->word[2] == bpf_htonl(0xffff)) {
		p->word[0] = p->word[3];
		p->word[2] = p->word[3] = 0;
		p->family = 4;
	}
}

static __always_inline void weft_peer_write(struct bpf_sock_addr *ctx, int family,
					    const struct weft_peer *p)
{
	ctx->user_port = p->port;
	if (family == 4) {
		ctx->user_ip4 = p->word[0];
	} else if (p->family == 4) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = p->word[0];
	} else {
		ctx->user_ip6[0] = p->word[0];
		ctx->user_ip6[1] = p->word[1];
		ctx->user_ip6[2] = p->word[2];
		ctx->user_ip6[3] = p->word[3];
	}
}

static __always_inline bool weft_is_front(const struct weft_pair *a, const struct weft_peer *p)
{
	return a->family == p->family && a->front[0] == p->addr[0] && a->front[1] == p->addr[1] &&
	       a->front_port == p->port;
}

static __always_inline bool weft_is_back(const struct weft_pair *a, const struct weft_peer *p)
{
	return a->family == p->family && a->back[0] == p->addr[0] && a->back[1] == p->addr[1] &&
	       a->back_port == p->port;
}

static __always_inline void
weft_pair_key_of(struct bpf_sock_addr *ctx, const struct weft_peer *back, struct weft_pair_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = bpf_get_socket_cookie(ctx);
	key->back[0] = back->addr[0];
	key->back[1] = back->addr[1];
	key->back_port = back->port;
	key->family = back->family;
}

/* Moves a pair out of the socket to make room. */
static __always_inline void weft_pair_push_out(struct bpf_sock_addr *ctx, struct weft_sock_row *row,
					       const struct weft_pair *old)
{
	struct weft_peer back = {
		.addr = {old->back[0], old->back[1]},
		.port = old->back_port,
		.family = old->family,
	};
	struct weft_pair_key key;
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&weft_sock_over, &zero);

	weft_pair_key_of(ctx, &back, &key);
	bpf_map_update_elem(&weft_sock_lru, &key, old, BPF_ANY);
	row->over++;
	if (count)
		*count += 1;
}

/* Keeps a pair; one with the same front end or the same backend gives way. */
static __always_inline void weft_pair_keep(struct bpf_sock_addr *ctx, struct weft_sock_row *row,
					   const struct weft_peer *front,
					   const struct weft_peer *back,
					   const struct weft_pair *pair)
{
	for (int i = 0; i < WEFT_PAIRS; i++) {
		struct weft_pair *have = &row->pair[i];
		if (weft_is_front(have, front) || weft_is_back(have, back)) {
			*have = *pair;
			return;
		}
	}
	struct weft_pair *place = &row->pair[row->next % WEFT_PAIRS];
	if (place->family)
		weft_pair_push_out(ctx, row, place);
	*place = *pair;
	row->next = (row->next + 1) % WEFT_PAIRS;
}

/* The backend that the socket already talks to behind this front end, if that
 * still answers. */
static __always_inline bool weft_pair_again(struct weft_sock_row *row,
					    const struct weft_peer *front, struct weft_peer *back)
{
	for (int i = 0; i < WEFT_PAIRS; i++) {
		struct weft_pair *have = &row->pair[i];
		if (!weft_is_front(have, front))
			continue;
		struct weft_backend_row *b = bpf_map_lookup_elem(&weft_backend, &have->backend);
		if (!b || b->state == WEFT_BACKEND_UNREADY)
			return false;
		back->addr[0] = have->back[0];
		back->addr[1] = have->back[1];
		back->port = have->back_port;
		back->family = have->family;
		return true;
	}
	return false;
}

/* Turns the address of a backend into that of the front end it was reached by. */
static __always_inline bool weft_pair_reverse(struct bpf_sock_addr *ctx, struct weft_sock_row *row,
					      struct weft_peer *p)
{
	struct weft_pair *found = NULL;

	for (int i = 0; i < WEFT_PAIRS; i++) {
		if (weft_is_back(&row->pair[i], p)) {
			found = &row->pair[i];
			break;
		}
	}
	if (!found && row->over) {
		struct weft_pair_key key;
		weft_pair_key_of(ctx, p, &key);
		found = bpf_map_lookup_elem(&weft_sock_lru, &key);
	}
	if (!found)
		return false;
	p->addr[0] = found->front[0];
	p->addr[1] = found->front[1];
	p->port = found->front_port;
	return true;
}
