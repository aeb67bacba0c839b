/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translated flows: their two keys. Who makes a translation fills the key of the
 * packet in hand and a value, and calls weft_nat_enter; the key of the way back
 * comes and goes with it. See natwrite.h for the packet and naterr.h for ICMP
 * errors.
 */
#pragma once

#include "ct.h"

union weft_nat_key {
	struct weft_nat4_key v4;
	struct weft_nat6_key v6;
} __attribute__((aligned(8))); /* copied by words */

/* Whether two keys are the same; where IPv4's end, both must be zero. */
static __always_inline bool weft_nat_same(const union weft_nat_key *a, const union weft_nat_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]));
}

/* What came of entering a flow. */
enum weft_nat_entered {
	WEFT_NAT_ENTERED,
	WEFT_NAT_KNOWN, /* another packet of the flow was faster */
	WEFT_NAT_TAKEN, /* another flow has the key of the way back */
	WEFT_NAT_NOROOM,
};

/* Whether the packet bears the number (ports, identifier) that a translation is about. */
static __always_inline bool weft_nat_icmp(__u8 proto)
{
	return proto == PROTO_ICMP || proto == PROTO_ICMP6;
}

static __always_inline void weft_nat_fill(union weft_nat_key *key, const __u8 family, __u8 kind,
					  const union weft_addr *src, const union weft_addr *dst,
					  __be16 sport, __be16 dport, __u8 proto)
{
	if (family == 4) {
		key->v4.src = src->v4;
		key->v4.dst = dst->v4;
		key->v4.sport = sport;
		key->v4.dport = dport;
		key->v4.proto = proto;
		key->v4.kind = kind;
		key->v4.pad[0] = key->v4.pad[1] = 0;
		return;
	}
	weft_memcpy(key->v6.src, src, 16);
	weft_memcpy(key->v6.dst, dst, 16);
	key->v6.sport = sport;
	key->v6.dport = dport;
	key->v6.proto = proto;
	key->v6.kind = kind;
	key->v6.pad[0] = key->v6.pad[1] = 0;
}

static __always_inline struct weft_nat *weft_nat_find(const union weft_nat_key *key,
						      const __u8 family)
{
	if (family == 4)
		return bpf_map_lookup_elem(&weft_nat4, &key->v4);
	return bpf_map_lookup_elem(&weft_nat6, &key->v6);
}

/* The key of what answers a translated packet to a service. */
static __always_inline void weft_nat_answer_key(union weft_nat_key *key, const struct weft_pkt *p,
						const __u8 family)
{
	weft_nat_fill(key, family, WEFT_NAT_BACK, &p->dst, &p->src, p->dport, p->sport, p->proto);
}

/* The translation of the packet in hand at a place of that kind, or NULL. */
static __always_inline struct weft_nat *weft_nat_of(const struct weft_pkt *p, const __u8 family,
						    __u8 kind)
{
	union weft_nat_key key;

	weft_nat_fill(&key, family, kind, &p->src, &p->dst, p->sport, p->dport, p->proto);
	return weft_nat_find(&key, family);
}

/*
 * The result is an int: before 6.4 the kernel's own function gives one, and the
 * upper half of the register is not to be relied on.
 */
static __always_inline int weft_nat_put(const union weft_nat_key *key, const struct weft_nat *n,
					const __u8 family)
{
	if (family == 4)
		return bpf_map_update_elem(&weft_nat4, &key->v4, n, BPF_NOEXIST);
	return bpf_map_update_elem(&weft_nat6, &key->v6, n, BPF_NOEXIST);
}

static __always_inline long weft_nat_del(const union weft_nat_key *key, const __u8 family)
{
	if (family == 4)
		return bpf_map_delete_elem(&weft_nat4, &key->v4);
	return bpf_map_delete_elem(&weft_nat6, &key->v6);
}

/* The key of the way back: the packet as translated, turned round. */
static __always_inline void weft_nat_twin(union weft_nat_key *twin, const union weft_nat_key *key,
					  const struct weft_nat *n, const __u8 family)
{
	union weft_addr to;
	bool dst = n->flags & WEFT_NAT_DST;

	weft_memcpy(&to, n->addr, sizeof(to));
	if (family == 4) {
		bool icmp = weft_nat_icmp(key->v4.proto);

		twin->v4.src = dst ? to.v4 : key->v4.dst;
		twin->v4.dst = dst ? key->v4.src : to.v4;
		twin->v4.sport = dst || icmp ? n->port : key->v4.dport;
		twin->v4.dport = !dst || icmp ? n->port : key->v4.sport;
		twin->v4.proto = key->v4.proto;
		twin->v4.kind = key->v4.kind ^ 1;
		twin->v4.pad[0] = twin->v4.pad[1] = 0;
		return;
	}
	bool icmp = weft_nat_icmp(key->v6.proto);

	weft_memcpy(twin->v6.src, dst ? to.b : key->v6.dst, 16);
	weft_memcpy(twin->v6.dst, dst ? key->v6.src : to.b, 16);
	twin->v6.sport = dst || icmp ? n->port : key->v6.dport;
	twin->v6.dport = !dst || icmp ? n->port : key->v6.sport;
	twin->v6.proto = key->v6.proto;
	twin->v6.kind = key->v6.kind ^ 1;
	twin->v6.pad[0] = twin->v6.pad[1] = 0;
}

/* What the way back becomes: what the packet in hand had. */
static __always_inline void weft_nat_undo(struct weft_nat *back, const union weft_nat_key *key,
					  const struct weft_nat *n, const __u8 family)
{
	bool dst = n->flags & WEFT_NAT_DST;

	*back = *n;
	back->flags ^= WEFT_NAT_DST;
	if (family == 4) {
		__be32 was = key->v4.src, other = key->v4.dst;

		/* Keeps the compiler from choosing an address instead, which verifiers refuse. */
		asm volatile("" : "+r"(was), "+r"(other));
		if (dst)
			was = other;
		weft_memcpy(back->addr, &was, 4);
		back->port = dst ? key->v4.dport : key->v4.sport;
		return;
	}
	weft_memcpy(back->addr, dst ? key->v6.dst : key->v6.src, 16);
	back->port = dst ? key->v6.dport : key->v6.sport;
}

/*
 * Enters both keys of a flow, or neither. The way back comes first: it is what
 * reserves the translated address and port, and an answer finds it in any case.
 */
static __always_inline enum weft_nat_entered
weft_nat_enter(const union weft_nat_key *key, const struct weft_nat *n, const __u8 family)
{
	union weft_nat_key twin;
	struct weft_nat back;
	int err;

	weft_nat_twin(&twin, key, n, family);
	weft_nat_undo(&back, key, n, family);
	err = weft_nat_put(&twin, &back, family);
	if (err)
		return err == -WEFT_EEXIST ? WEFT_NAT_TAKEN : WEFT_NAT_NOROOM;
	/* n may lie in memory that a global function was given; before 6.2 no value may. */
	back = *n;
	err = weft_nat_put(key, &back, family);
	if (!err)
		return WEFT_NAT_ENTERED;
	weft_nat_del(&twin, family);
	return err == -WEFT_EEXIST ? WEFT_NAT_KNOWN : WEFT_NAT_NOROOM;
}

/*
 * Removes both keys of a flow, found by either. Only who removed the first key
 * removes the second: another CPU may do the same, and the second key may be
 * another flow's by then.
 */
static __always_inline bool weft_nat_leave(const union weft_nat_key *key, const __u8 family)
{
	struct weft_nat *n = weft_nat_find(key, family);
	union weft_nat_key twin;

	if (!n)
		return false;
	weft_nat_twin(&twin, key, n, family);
	if (weft_nat_del(key, family))
		return false;
	weft_nat_del(&twin, family);
	return true;
}

/*
 * The end of a flow of conntrack: of its translation at an uplink (WEFT_NAT_OUT, the
 * packets of the initiator, or of the responder behind a port of the host's) or by a
 * service (WEFT_NAT_BACK, those of the responder).
 * Both translate the source. There is stack for one key only, so the twin, built
 * from what conntrack knows, goes first; who removed it removes the other.
 */
static __always_inline void weft_nat_end4(const struct weft_ct4_key *ct, __u8 kind, bool b)
{
	struct weft_nat4_key key = {
		.src = ct->addr[b],
		.dst = ct->addr[!b],
		.sport = ct->port[b],
		.dport = ct->port[!b],
		.proto = ct->proto,
		.kind = kind,
	};
	struct weft_nat *n = bpf_map_lookup_elem(&weft_nat4, &key);

	if (!n)
		return;
	key.src = ct->addr[!b];
	weft_memcpy(&key.dst, n->addr, 4);
	key.sport = weft_nat_icmp(ct->proto) ? n->port : ct->port[!b];
	key.dport = n->port;
	key.kind = kind ^ 1;
	if (bpf_map_delete_elem(&weft_nat4, &key))
		return;
	key.src = ct->addr[b];
	key.dst = ct->addr[!b];
	key.sport = ct->port[b];
	key.dport = ct->port[!b];
	key.kind = kind;
	bpf_map_delete_elem(&weft_nat4, &key);
}

static __always_inline void weft_nat_end6(const struct weft_ct6_key *ct, __u8 kind, bool b)
{
	struct weft_nat6_key key = {};
	struct weft_nat *n;

	weft_memcpy(key.src, ct->addr[b], 16);
	weft_memcpy(key.dst, ct->addr[!b], 16);
	key.sport = ct->port[b];
	key.dport = ct->port[!b];
	key.proto = ct->proto;
	key.kind = kind;
	n = bpf_map_lookup_elem(&weft_nat6, &key);
	if (!n)
		return;
	weft_memcpy(key.src, ct->addr[!b], 16);
	weft_memcpy(key.dst, n->addr, 16);
	key.sport = weft_nat_icmp(ct->proto) ? n->port : ct->port[!b];
	key.dport = n->port;
	key.kind = kind ^ 1;
	if (bpf_map_delete_elem(&weft_nat6, &key))
		return;
	weft_memcpy(key.src, ct->addr[b], 16);
	weft_memcpy(key.dst, ct->addr[!b], 16);
	key.sport = ct->port[b];
	key.dport = ct->port[!b];
	key.kind = kind;
	bpf_map_delete_elem(&weft_nat6, &key);
}

/*
 * To be called with the key of an entry of conntrack that went; meta: family << 8 |
 * its flags. Global, and all conditions inside, so that the verifier looks at it
 * once and not on each of its callers' ways.
 */
__noinline int weft_nat_end(const struct weft_ct6_key *key, __u32 meta)
{
	bool b = meta & WEFT_CT_FROM_B;

	if (!key || !(meta & WEFT_CT_NAT))
		return 0;
	if (meta >> 8 == 4) {
		weft_nat_end4((const void *)key, WEFT_NAT_OUT, b);
		weft_nat_end4((const void *)key, WEFT_NAT_OUT, !b);
		weft_nat_end4((const void *)key, WEFT_NAT_BACK, !b);
	} else {
		weft_nat_end6(key, WEFT_NAT_OUT, b);
		weft_nat_end6(key, WEFT_NAT_OUT, !b);
		weft_nat_end6(key, WEFT_NAT_BACK, !b);
	}
	return 0;
}

/* Notes how far a connection that is not in conntrack is. */
static __always_inline void weft_nat_follow(struct weft_nat *n, __u8 tcp)
{
	if (tcp & (TCP_FIN | TCP_RST))
		n->tcp |= tcp & (TCP_FIN | TCP_RST);
}

static __always_inline void weft_nat_seen(struct weft_nat *n, __u32 now)
{
	if (n->seen != now) /* spares the other CPUs a line of cache */
		n->seen = now;
}
