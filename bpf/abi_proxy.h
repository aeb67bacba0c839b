/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract (abi.h) that is about the proxy and its rulesets. */
#pragma once

#include "vmlinux.h"

/* The proxy's place, as in pkg/model/ruleset.go. */
#define WEFT_PROXY_PORT 14000 /* of ruleset 1 in block 0 */
#define WEFT_MAX_RULESET 1000 /* ports of a block */
#define WEFT_PROXY_BLOCKS 2
#define WEFT_MAX_BOTH 128   /* pairs, and those that are about to go */
#define WEFT_PROXY_PLACES 4 /* sockets of one listener, one a worker */

/*
 * The proxies of this node (weft_l7, in the only place): one for each block of ports, or
 * one alone. Which group one is in says which block is its own.
 */
struct weft_l7_row {
	__u64 cgroup
		[WEFT_PROXY_BLOCKS]; /* number of the group of all its processes; 0: there is none */
	__u32 active;                /* 0: no ruleset is in force, and no flow of one is left */
	__u32 prefer;                /* block of the listeners that new connections go to */
};

/* A socket that listens for connections of a ruleset (weft_proxy). */
struct weft_proxy_key {
	__u8 family; /* 4 or 6 */
	__u8 block;
	__u16 ruleset;
	__u16 place;
	__u16 pad;
};

/* What is known of a ruleset (weft_ruleset, by number). */
struct weft_ruleset_row {
	__u16 as;     /* ruleset that it satisfies, too; 0: none but itself */
	__u16 before; /* the same, as long as there may be entries of before */
	__u16 first;  /* of a pair: the two rulesets that it is, one after the other; else 0 */
	__u16 then;
};

/* Two rulesets, both asked of a connection, for which there may be a pair (weft_both). */
struct weft_both_key {
	__u16 first; /* that of egress */
	__u16 then;  /* that of ingress */
};

_Static_assert(sizeof(struct weft_l7_row) == 24, "weft_l7_row");
_Static_assert(sizeof(struct weft_proxy_key) == 8, "weft_proxy_key");
_Static_assert(sizeof(struct weft_ruleset_row) == 8, "weft_ruleset_row");
_Static_assert(sizeof(struct weft_both_key) == 4, "weft_both_key");
