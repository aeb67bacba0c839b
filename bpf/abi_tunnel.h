/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tunnel between nodes: VXLAN (RFC 7348) with the identity of the sender as VNI.
 */
#pragma once

#include "vmlinux.h"

/*
 * A node at the other end of the tunnel, by its number (weft_node); number 0 is this
 * node. What is none has no bits; masks are made of the bits, so that the programs
 * need not.
 */
struct weft_node_row {
	__u8 outer[16]; /* its end of the tunnel; IPv4 in the first four bytes, the rest zero */
	__u8 ip6[16];   /* its pods' range */
	__u8 mask6[16];
	__be32 ip4; /* its pods' range */
	__be32 mask4;
	__u8 family; /* of outer, 4 or 6; 0: nothing can be sent there */
	__u8 bits4;
	__u8 bits6;
	__u8 used; /* 0: there is no node of this number */
};

/* A node's end of the tunnel (weft_outer, gives its number). */
struct weft_outer_key {
	__u8 addr[16]; /* IPv4 in the first four bytes, the rest zero */
};

/* The device of the tunnel (weft_tunnel, in the only place). */
struct weft_tunnel_row {
	__u32 ifindex; /* 0: there is none */
	__u32 mtu;     /* bytes of inner IP packet */
};

_Static_assert(sizeof(struct weft_node_row) == 60, "weft_node_row");
