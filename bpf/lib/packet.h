/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the packet in hand, and the wire formats it is read from. */
#pragma once

#include "config.h"
#include <bpf/bpf_endian.h>

#define weft_likely(x) __builtin_expect(!!(x), 1)
#define weft_unlikely(x) __builtin_expect(!!(x), 0)
#define weft_memcpy __builtin_memcpy
#define weft_memset __builtin_memset

#define ETH_LEN 14
#define ETH_IP4 0x0800
#define ETH_ARP 0x0806
#define ETH_IP6 0x86dd

#define IP4_LEN 20
#define IP4_MF 0x2000
#define IP4_OFFSET 0x1fff
#define IP6_LEN 40

#define PROTO_HOPOPTS 0
#define PROTO_ICMP 1
#define PROTO_IGMP 2
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_ICMP6 58
#define PROTO_NONE 59
#define PROTO_DSTOPTS 60
#define PROTO_SCTP 132

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Beside WEFT_PASSED and the reasons. */
#define WEFT_AS_IS (-1)   /* let pass without a further look */
#define WEFT_HAIRPIN (-2) /* from a pod to itself */
#define WEFT_SERVICE_NEW (-3)
#define WEFT_SENT_ON (-4)   /* on its way to another node, past the host's stack */
#define WEFT_TOO_BIG (-6)   /* for the tunnel, and the stack would not tell */
#define WEFT_UNDECIDED (-8) /* no decision about its flow stands */

struct weft_eth {
	__u8 dst[6];
	__u8 src[6];
	__be16 proto;
};

struct weft_iphdr {
	__u8 vihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 proto;
	__sum16 csum;
	__be32 src;
	__be32 dst;
};

struct weft_ip6hdr {
	__be32 vtcfl;
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__u32 src[4];
	__u32 dst[4];
};

/* The first bytes of TCP, UDP, SCTP or ICMP. */
struct weft_l4hdr {
	union {
		__be16 port[2];
		struct {
			__u8 type;
			__u8 code;
			__sum16 csum;
		};
	};
	__be16 word[4]; /* ICMP query: word[0] is the identifier */
	__u8 doff;
	__u8 flags;
};

union weft_addr {
	__be32 v4;
	__u8 b[16];
	__u32 w[4];
	__u64 d[2];
};

union weft_ct_key {
	struct weft_ct4_key v4;
	struct weft_ct6_key v6;
} __attribute__((aligned(8))); /* copied by words */

/* Where in a fragmented datagram a packet stands. */
enum weft_frag_place {
	WEFT_FRAG_NONE,
	WEFT_FRAG_FIRST,
	WEFT_FRAG_LATER,
};

/* What kind of ICMP message it is. */
enum weft_icmp_kind {
	WEFT_ICMP_NO, /* not ICMP */
	WEFT_ICMP_QUERY,
	WEFT_ICMP_REPLY,
	WEFT_ICMP_ERROR,
	WEFT_ICMP_ND,    /* neighbour and router discovery */
	WEFT_ICMP_GROUP, /* multicast group reports */
	WEFT_ICMP_OTHER,
};

#define WEFT_RIVAL 0x80

/*
 * No pointers in here: it is handed to global functions, which the verifier looks
 * at once each instead of once a call, and which may not be given pointers inside.
 * No keys of maps either: before 6.2 these may not lie in memory that a global
 * function is given, so each builds its own on its stack.
 */
struct weft_pkt {
	union weft_addr src;
	union weft_addr dst;
	__u32 now;  /* jiffies, low half */
	__u32 len;  /* bytes, with the Ethernet header */
	__u32 segs; /* packets on the wire */
	__u32 frag_id;
	__u32 ident[2]; /* identities of sender and receiver, as far as known */
	__u32 peer;     /* identity that the policy was asked about */
	__u32 rule;     /* that refused it */
	__u32 wire;     /* VNI that it came with; 0: not out of the tunnel */
	__be16 sport;
	__be16 dport;
	__u16 own_slot;
	__u16 other_slot; /* of the other side if it is local, or 0 */
	__u16 l4_off;     /* from the start of the frame */
	__u16 hdrs;       /* bytes of the headers after Ethernet, for the size of segments */
	__u16 icmp;       /* type << 8 | code */
	__u8 family;
	__u8 proto;
	__u8 tcp;
	__u8 ttl;
	__u8 frag;        /* enum weft_frag_place */
	__u8 kind;        /* enum weft_icmp_kind */
	__u8 src_b;       /* the sender is side b of the key */
	__u8 hook;        /* enum weft_dir of the device's endpoint */
	__u8 dir;         /* enum weft_dir that refused it */
	__u8 rival;       /* WEFT_RIVAL and enum weft_leg of another flow with its tuple, or 0 */
	__u8 quiet : 1;   /* a drop that is counted but not reported */
	__u8 called : 1;  /* to a service, and translated */
	__u8 answers : 1; /* from a backend to whom called the service; not yet translated */
	__u8 strange : 1; /* conntrack did not know its flow */
	__u8 ported : 1;  /* came in by a port of the host's that is the pod's */
	__u8 inside : 1;  /* of a flow to somewhere in the cluster, not translated */
	__u8 direct : 1;  /* of a flow with a pod of another node that passes the stack by */
	__u8 proxy : 1;   /* to be delivered to a socket of the proxy */
	__u16 node;       /* of the other side, if it is behind the tunnel, or 0 */
	__u16 passed;     /* ruleset that the proxy enforced before it sent this, or 0 */
	__u16 rival_has;  /* the ruleset of that other flow */
};

/* Reads from wherever the bytes are; slower than direct access. */
static __always_inline bool weft_load(struct __sk_buff *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, off, to, len) == 0;
}

static __always_inline bool weft_same_mac(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const void *)a, *y = (const void *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __always_inline bool weft_same_ip6(const union weft_addr *a, const __u8 *b)
{
	const __u32 *w = (const void *)b;

	return !((a->w[0] ^ w[0]) | (a->w[1] ^ w[1]) | (a->w[2] ^ w[2]) | (a->w[3] ^ w[3]));
}
