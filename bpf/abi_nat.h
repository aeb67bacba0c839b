/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract (abi.h) that is about translated flows. */
#pragma once

#include "vmlinux.h"

/*
 * Where a translation is made, and which way the packet goes. A translated flow
 * has two keys, whose kinds differ in the lowest bit.
 */
enum weft_nat_kind {
	WEFT_NAT_OUT = 0,  /* leaves by an uplink: the source becomes the node's */
	WEFT_NAT_IN = 1,   /* comes in by one: the destination becomes the pod's */
	WEFT_NAT_FWD = 2,  /* a pod calls a service: the destination becomes a backend's */
	WEFT_NAT_BACK = 3, /* its answers: the source becomes the service's again */
};

/*
 * A packet as it comes to the place, in its own direction. ICMP queries and their
 * answers have their identifier as both ports.
 */
struct weft_nat4_key {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 kind; /* enum weft_nat_kind */
	__u8 pad[2];
};

struct weft_nat6_key {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 kind;
	__u8 pad[2];
};

enum weft_nat_flag {
	WEFT_NAT_DST = 1 << 0,   /* the destination is translated, else the source */
	WEFT_NAT_ALONE = 1 << 1, /* not in conntrack: the host's own, or a pod's to itself */
	WEFT_NAT_ASKED = 1 << 2, /* from outside to a pod's port, and not answered (way out only) */
};

/*
 * What the source or destination becomes. The key of the way back follows from
 * key and value: the translated packet turned round (weft_nat_twin).
 */
struct weft_nat {
	__u8 addr[16]; /* IPv4 in the first four bytes, the rest zero */
	__be16 port;
	__u8 flags;    /* enum weft_nat_flag */
	__u8 tcp;      /* without conntrack: FIN and RST seen with this key */
	__u32 created; /* jiffies, low half */
	__u32 seen;    /* jiffies of the last packet with this key, low half */
	__u32 service; /* number of the service; 0: none; of a pod's to itself: its slot */
	__u32 backend;
};

/* A device by which packets leave the cluster (weft_uplink, by its index). */
struct weft_uplink_row {
	__be32 ip4;   /* what sources become; 0: the family is not translated */
	__u8 ip6[16]; /* the same; all zero: not translated */
};

/* One of the host's addresses (weft_home). */
struct weft_home_key {
	__u8 addr[16]; /* IPv4 in the first four bytes, the rest zero */
};

/* Ports of the host's that are a pod's (weft_ports, its only row). */
struct weft_ports_row {
	__u32 fronts; /* how many front ends there are at addresses of the host */
	__u32 next;   /* place in weft_asked of the next flow; may begin anew at any time */
};

/* A flow from outside to such a port that was not answered when it was noted. */
struct weft_asked_row {
	struct weft_nat6_key key; /* of its way out; IPv4: struct weft_nat4_key comes first */
	__u8 family;              /* 4 or 6; 0: the place is free */
	__u8 pad[7];
};

/* Argument of weft_nat_gc. */
struct weft_natgc {
	__u64 live;    /* out: translated flows left */
	__u64 expired; /* out: translated flows removed */
};

_Static_assert(sizeof(struct weft_nat4_key) == 16, "weft_nat4_key");
_Static_assert(sizeof(struct weft_nat6_key) == 40, "weft_nat6_key");
_Static_assert(sizeof(struct weft_nat) == 36, "weft_nat");
_Static_assert(sizeof(struct weft_uplink_row) == 20, "weft_uplink_row");
_Static_assert(sizeof(struct weft_asked_row) == 48, "weft_asked_row");
