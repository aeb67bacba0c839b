/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract (abi.h) that is about services. */
#pragma once

#include "vmlinux.h"

/*
 * Services. A front end leads to a numbered service port, which has count slots;
 * a slot holds the number of a backend. Backends are written before slots and
 * slots before the front end, and removed in the opposite order.
 */
struct weft_svc4_key {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 scope; /* 0: inside the cluster */
};

struct weft_svc6_key {
	__u8 addr[16];
	__be16 port;
	__u8 proto;
	__u8 scope;
};

enum weft_algorithm {
	WEFT_RANDOM = 0,
	WEFT_MAGLEV = 1, /* the slots are a Maglev table, the client's hash chooses */
};

enum weft_svc_flag {
	WEFT_SVC_PORT = 1 << 0, /* a port of the host's that is a pod's: served at uplinks, too */
	WEFT_SVC_OWN = 1 << 1,  /* the same at a loopback address: for the host's own processes */
};

struct weft_svc {
	__u32 service;
	__u32 count;    /* slots; 0: nobody serves, refuse at once */
	__u32 affinity; /* s a client stays with its backend; 0: not */
	__u8 algorithm; /* enum weft_algorithm */
	__u8 flags;     /* enum weft_svc_flag */
	__u16 pad;
};

struct weft_slot_key {
	__u32 service;
	__u32 index;
};

enum weft_backend_state {
	WEFT_BACKEND_ACTIVE = 1,
	WEFT_BACKEND_DRAINING = 2, /* keeps what it has, gets nothing new */
	WEFT_BACKEND_UNREADY = 3,  /* keeps connections only: messages go elsewhere */
};

struct weft_backend_row {
	__u8 addr[16]; /* IPv4 in the first four bytes */
	__be16 port;
	__u8 family; /* 4 or 6 */
	__u8 state;  /* enum weft_backend_state */
	__u8 proto;
	__u8 pad[3];
};

/* How often a service chose a backend. */
struct weft_hit_key {
	__u32 service;
	__u32 backend;
};

/* Which backend a client (a network namespace, that is an address) stays with. */
struct weft_client_key {
	__u64 client; /* cookie of the network namespace */
	__u32 service;
	__u32 pad;
};

struct weft_client_row {
	__u32 backend;
	__u32 seen; /* jiffies, low half */
};

/*
 * What a socket was told and where it really goes, so that the reverse can be
 * told too. IPv4 addresses stand in the first four bytes, the rest is zero.
 */
struct weft_pair {
	__u64 front[2];
	__u64 back[2];
	__be16 front_port;
	__be16 back_port;
	__u32 service;
	__u32 backend;
	__u8 family; /* 4 or 6; 0: the place is free */
	__u8 pad[3];
};

#define WEFT_PAIRS 4
struct weft_sock_row {
	struct weft_pair pair[WEFT_PAIRS];
	__u32 next; /* place of the next pair */
	__u32 over; /* pairs that were pushed out into weft_sock_lru */
};

struct weft_pair_key {
	__u64 cookie; /* of the socket */
	__u64 back[2];
	__be16 back_port;
	__u8 family;
	__u8 pad[5];
};

/* What weft_find_gone says of a socket whose backend is gone. */
struct weft_gone {
	__u32 netns; /* number of its network namespace, as in /proc/<pid>/ns/net */
	__u32 pad;
};

/* Argument of weft_ct_sweep: flows of these addresses are decided again. */
#define WEFT_SWEEP_MAX 64
struct weft_sweep_prefix {
	__u8 addr[16];
	__u8 family; /* 4 or 6 */
	__u8 bits;
	__u8 pad[6];
};

struct weft_sweep {
	__u32 count;   /* prefixes in use */
	__u32 matched; /* out: flows marked */
	struct weft_sweep_prefix prefix[WEFT_SWEEP_MAX];
};

/*
 * What weft_ct_gc looks at in one run. A kernel that does not interrupt itself gives the
 * CPU to nobody else meanwhile, so it is not everything at once.
 */
enum weft_gc_part {
	WEFT_GC_UNANSWERED4,
	WEFT_GC_UNANSWERED6,
	WEFT_GC_ANSWERED4,
	WEFT_GC_ANSWERED6,
	WEFT_GC_DROPS,
	WEFT_GC_PARTS,
};

/* Argument of weft_ct_gc; what it counts is added to what is there. */
struct weft_gc {
	__u64 live;    /* out: answered flows left */
	__u64 pending; /* out: unanswered flows left */
	__u64 expired; /* out: flows removed */
	__u64 drops;   /* out: drop reports flushed */
	__u32 part;    /* enum weft_gc_part */
	__u32 pad;
};

_Static_assert(sizeof(struct weft_svc4_key) == 8, "weft_svc4_key");
_Static_assert(sizeof(struct weft_svc6_key) == 20, "weft_svc6_key");
_Static_assert(sizeof(struct weft_svc) == 16, "weft_svc");
_Static_assert(sizeof(struct weft_backend_row) == 24, "weft_backend_row");
_Static_assert(sizeof(struct weft_pair) == 48, "weft_pair");
