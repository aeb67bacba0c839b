/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every type that crosses from the kernel programs to Go. The Go side is
 * generated from here; nothing is mirrored by hand. A change of a layout moves
 * the version in the pin of the map that holds it (see maps.h).
 *
 * Byte order: addresses and ports are as on the wire, all else is native.
 */
#pragma once

#include "abi_nat.h"
#include "abi_proxy.h"
#include "abi_service.h"
#include "abi_tunnel.h"

/* The way a packet goes, seen from the endpoint. */
enum weft_dir {
	WEFT_EGRESS = 0,  /* out of the endpoint */
	WEFT_INGRESS = 1, /* into the endpoint */
};

/* What a policy entry says. */
enum weft_action {
	WEFT_ACTION_NONE = 0,
	WEFT_ACTION_ALLOW = 1,
	WEFT_ACTION_DENY = 2,
	WEFT_ACTION_AUDIT = 3, /* let pass, but reported as what a deny would stop */
};

/*
 * Why a packet went no further; 0 is a packet that passed. Append only: the
 * numbers are in metrics, in recorded flows and in the API.
 */
enum weft_reason {
	WEFT_PASSED = 0,
	WEFT_DROP_NO_ENDPOINT = 1,    /* device without an endpoint row: fail closed */
	WEFT_DROP_MALFORMED = 2,      /* truncated or inconsistent header */
	WEFT_DROP_UNSUPPORTED_L3 = 3, /* neither IPv4, IPv6 nor ARP, or VLAN-tagged */
	WEFT_DROP_UNSUPPORTED_L4 = 4, /* a protocol the host must not route for pods */
	WEFT_DROP_SPOOFED_MAC = 5,
	WEFT_DROP_SPOOFED_IPV4 = 6,
	WEFT_DROP_SPOOFED_IPV6 = 7,
	WEFT_DROP_SPOOFED_ARP = 8,
	WEFT_DROP_SPOOFED_ND = 9,
	WEFT_DROP_EXT_HEADERS = 10,     /* forbidden, or more than the parser walks */
	WEFT_DROP_FRAGMENT = 11,        /* later fragment whose first was not seen */
	WEFT_DROP_ICMP_NO_FLOW = 12,    /* ICMP error that speaks of no known flow */
	WEFT_DROP_POLICY_DENY = 13,     /* a deny rule */
	WEFT_DROP_POLICY_DEFAULT = 14,  /* isolated, and no rule allows it */
	WEFT_DROP_CT_FULL = 15,         /* no room for the flow */
	WEFT_DROP_MULTICAST = 16,       /* multicast or broadcast from a pod */
	WEFT_DROP_REDIRECT = 17,        /* local delivery failed */
	WEFT_DROP_SNAT_PORTS = 18,      /* no port is left for the flow on the way out */
	WEFT_DROP_NAT_FULL = 19,        /* no room for a translation, or to write it */
	WEFT_DROP_NO_BACKEND = 20,      /* nobody serves what was called; the pod is told */
	WEFT_DROP_TUNNEL_PEER = 21,     /* a tunnel frame that no node sent, or by no uplink */
	WEFT_DROP_TUNNEL_SOURCE = 22,   /* an inner source that is not the sending node's */
	WEFT_DROP_TUNNEL_TARGET = 23,   /* an inner destination that the tunnel does not lead to */
	WEFT_DROP_TUNNEL_PORT = 24,     /* a pod or process spoke to the tunnel port itself */
	WEFT_DROP_BARE_POD = 25,        /* a pod's source address from outside, not in the tunnel */
	WEFT_DROP_PROXY_NOT_READY = 26, /* no socket listens for the ruleset; the caller is told */
	WEFT_DROP_NEEDS_PROXY =
		27, /* open without the proxy, or by another ruleset; who sends is told */
	WEFT_DROP_PROXY_CLASH =
		28, /* the proxy and its client chose the same port; who came second is told */
	WEFT_REASON_MAX,
};

/* Identities below 256 have a fixed meaning on every node. */
enum weft_reserved {
	WEFT_ID_NONE = 0, /* in a policy key: any peer */
	WEFT_ID_HOST = 1,
	WEFT_ID_REMOTE_NODE = 2,
	WEFT_ID_WORLD_IPV4 = 3,
	WEFT_ID_WORLD_IPV6 = 4,
	WEFT_ID_KUBE_APISERVER = 5,
	WEFT_ID_HEALTH = 6,
	WEFT_ID_INGRESS = 7,
	WEFT_ID_UNMANAGED = 8,
	WEFT_ID_UNKNOWN = 9,
};

/* Flags of an endpoint row. */
enum weft_ep_flag {
	WEFT_EP_IPV4 = 1 << 0,            /* has an IPv4 address */
	WEFT_EP_IPV6 = 1 << 1,            /* has an IPv6 address */
	WEFT_EP_ENFORCE_EGRESS = 1 << 2,  /* default deny out of the endpoint */
	WEFT_EP_ENFORCE_INGRESS = 1 << 3, /* default deny into the endpoint */
	WEFT_EP_RULES_EGRESS = 1 << 4,    /* the policy set has egress entries */
	WEFT_EP_RULES_INGRESS = 1 << 5,   /* the policy set has ingress entries */
};

/*
 * One local endpoint. Rows lie in an array by slot; slot 0 is never used. A row
 * is replaced whole. epoch is unique over the node's life: it moves whenever
 * identity, policy set (its number or its content) or enforcement moves, and is
 * never 0 in a live row. A reader may see an update half done; therefore a change
 * is written twice, with two new epochs: what was decided on a torn row bears the
 * first and is decided again.
 */
struct weft_ep_row {
	__u32 ifindex; /* host-side device; 0: the slot is free */
	__u32 identity;
	__u32 epoch;
	__u32 polset;     /* index in weft_polsets; 0: no entries */
	__u16 flags;      /* enum weft_ep_flag */
	__u16 mtu;        /* of the device, bytes of IP packet */
	__u8 mac[6];      /* of the pod's device */
	__u8 host_mac[6]; /* of the host-side device */
	__be32 ip4;
	__u8 ip6[16];
	__u8 ll6[16]; /* the pod's link-local address, good for ND only */
	__u32 id;     /* the agent's number of the endpoint, for flow events */
	__u8 pad[56];
};

/* What is known about an address; longest prefix wins. */
struct weft_ip4_key {
	__u32 prefixlen;
	__be32 addr;
};

struct weft_ip6_key {
	__u32 prefixlen;
	__u8 addr[16];
};

struct weft_ip {
	__u32 identity;
	__u16 slot; /* of a local endpoint (its row's identity then counts), or 0 */
	__u16 node; /* to which packets for it go through the tunnel; 0: not through it */
};

/*
 * A policy set is an LPM trie. Identity and direction always match whole
 * (WEFT_POL_BITS_ANY); protocol and port follow, most significant first, so a
 * port range is a handful of prefixes. For ICMP the port holds the type in its
 * first byte and the code in its second. Two look-ups decide a packet: with the
 * peer's identity and with WEFT_ID_NONE; higher precedence wins, at a tie the
 * peer's. Rows are resolved by the compiler so that within one identity the
 * longest match is the answer.
 */
struct weft_pol_key {
	__u32 prefixlen;
	__u32 identity;
	__u8 dir; /* enum weft_dir */
	__u8 proto;
	__be16 port;
};

#define WEFT_POL_BITS_ANY 40   /* identity and direction */
#define WEFT_POL_BITS_PROTO 48 /* and protocol */
#define WEFT_POL_BITS_PORT 64  /* and the whole port */

struct weft_pol {
	__u32 precedence;
	__u32 rule;    /* number of the rule, for flows; 0: none */
	__u16 ruleset; /* L7 ruleset, 0: none */
	__u8 action;   /* enum weft_action */
	__u8 pad;
};

/*
 * Conntrack. One key for both directions: side a is the smaller of the two
 * (address, port) pairs in memcmp order. ICMP queries have their identifier as
 * both ports.
 */
struct weft_ct4_key {
	__be32 addr[2];
	__be16 port[2];
	__u8 proto;
	__u8 pad[2];
	__u8 beside; /* 1: a leg that the proxy opened (leg.h) */
};

struct weft_ct6_key {
	__u8 addr[2][16];
	__be16 port[2];
	__u8 proto;
	__u8 pad[2];
	__u8 beside; /* 1: a leg that the proxy opened (leg.h) */
};

enum weft_ct_flag {
	WEFT_CT_FROM_B = 1 << 0,  /* the initiator is side b of the key */
	WEFT_CT_STALE = 1 << 1,   /* decide again, peers' identities too */
	WEFT_CT_REFUSED = 1 << 2, /* not let pass any more, its end was reported; also stale */
	WEFT_CT_CLOSING = 1 << 3, /* TCP: FIN from both or RST */
	WEFT_CT_ICMP = 1 << 4,
	WEFT_CT_NAT = 1 << 5,      /* has keys in weft_nat4 or 6, which end with it */
	WEFT_CT_SERVICE = 1 << 6,  /* its answers are translated to a service's address */
	WEFT_CT_UPSTREAM = 1 << 7, /* from the proxy to the server: has passed all rulesets */
};

/*
 * A flow. In each pair [0] is the initiator, [1] the responder. The first 64
 * bytes are what an established packet touches.
 */
struct weft_ct {
#ifdef WEFT_CT_ALT /* builds for tests: another layout */
	__u64 alt;
#endif
	__u64 packets[2];
	__u64 bytes[2];
	__u32 seen;     /* jiffies of the last packet, low half */
	__u32 epoch[2]; /* of the local endpoints when decided; 0: not local */
	__u32 identity[2];
	__u16 slot[2]; /* of the local endpoints; 0: not local */
	__u8 flags;    /* enum weft_ct_flag */
	__u8 tcp[2];   /* TCP flags seen, by side */
	__u8 action;   /* enum weft_action that let it pass */
	__u16 ruleset; /* of which the proxy is asked; 0: the flow is not the proxy's */
	__u16 icmp;    /* type and code of the query that opened the flow */
	/* colder */
	__u32 created;  /* jiffies, low half */
	__u32 rule[2];  /* rule that allowed it: [0] egress, [1] ingress; 0: none */
	__u32 reported; /* jiffies of the last event about it */
	__u32 service;  /* that the initiator asked for: its number; 0: none, or not known */
	__u32 backend;  /* that was chosen for it */
	__u32 wire;     /* VNI with which the other side's packets come; 0: none came yet */
	__u16 node;     /* of the other side, if it is behind the tunnel; 0: it is not */
	__u16 passed; /* ruleset that the proxy enforced before it opened the flow; 0: others opened it */
#ifndef WEFT_CT_ALT
	__u8 spare[8];
#endif
};

/* IPv4 keys are small: the element of the table is padded to whole lines. */
struct weft_ct4_row {
	struct weft_ct ct;
	__u8 pad[24];
};

struct weft_ct6_row {
	struct weft_ct ct;
};

/* One unanswered flow in an endpoint's ring (see maps.h, weft_pend). */
struct weft_pend_row {
	struct weft_ct6_key key; /* IPv4: as struct weft_ct4_key in the first bytes */
	__u8 family;             /* 4 or 6; 0: the place is free */
	__u8 pad[7];
};

/* What the kernel side alone writes about an endpoint, by slot. */
struct weft_epstat_row {
	__u32 pend_head;    /* next place in the endpoint's ring */
	__u32 hairpin;      /* flows to itself through services, about; 0: never had one */
	__u64 pend_evicted; /* unanswered flows pushed out by newer ones */
};

/* Ports of a fragmented datagram, from its first fragment. */
struct weft_frag_key {
	__u8 addr[2][16]; /* source, destination; IPv4 in the first four bytes */
	__u32 id;
	__u8 proto;
	__u8 family;
	__u16 pad;
};

struct weft_frag_row {
	__be16 port[2]; /* source, destination */
};

/* Counters by reason and direction (weft_metrics, index reason * 2 + dir). */
struct weft_counter {
	__u64 packets;
	__u64 bytes;
};

enum weft_flow_type {
	WEFT_FLOW_NEW = 1,   /* decided: let pass */
	WEFT_FLOW_DROP = 2,  /* not let pass; count says how many packets it stands for */
	WEFT_FLOW_END = 3,   /* ended: closed, expired or deleted */
	WEFT_FLOW_ALIVE = 4, /* long-lived: counters so far */
	WEFT_FLOW_AUDIT = 5, /* let pass, a deny in audit mode */
};

/* Which part of a proxied connection a flow is. */
enum weft_leg {
	WEFT_LEG_NONE = 0,
	WEFT_LEG_DOWNSTREAM = 1, /* to the proxy */
	WEFT_LEG_UPSTREAM = 2,   /* from it to the server */
	WEFT_LEG_BETWEEN = 3,    /* from it to itself: another ruleset is to be passed */
};

/*
 * One flow event in the ring buffer. In each pair [0] is the initiator, [1] the
 * responder (for a drop: the sender and the receiver of the packet). IPv4
 * addresses stand in the first four bytes.
 */
struct weft_flow {
	__u64 time;  /* CLOCK_MONOTONIC, ns */
	__u8 type;   /* enum weft_flow_type */
	__u8 reason; /* enum weft_reason */
	__u8 dir;    /* enum weft_dir in which it was decided (a drop: that refused) */
	__u8 family; /* 4 or 6; 0: not an IP packet */
	__u8 proto;
	__u8 tcp_flags;
	__u16 icmp;    /* type << 8 | code, for ICMP and ICMPv6 */
	__u32 rule[2]; /* deciding rule: [0] egress, [1] ingress; 0: none */
	__u32 identity[2];
	__u16 slot[2];
	__be16 port[2];
	__u8 addr[2][16];
	__u64 packets[2];
	__u64 bytes[2];
	__u32 count;   /* packets that a drop event stands for */
	__u32 ifindex; /* device where it was decided */
	__u32 age;     /* ms since the flow began */
	__u32 service; /* that the initiator asked for: its number; 0: none, or not known */
	__u32 backend; /* that was chosen for it */
	__u16 ruleset; /* of a flow that the proxy has; 0: it has not */
	__u8 leg;      /* enum weft_leg */
	__u8 pad;
};

/*
 * Drops are counted per key, exactly, and reported at most ten times a second
 * and key; the tail of a flood is reported by the collector (weft_ct_gc).
 */
struct weft_drop_key {
	__u32 peer; /* identity of the other side */
	__u32 rule;
	__be16 dport;
	__u16 slot;
	__u8 reason;
	__u8 dir;
	__u8 proto;
	__u8 family;
};

struct weft_drop {
	struct weft_flow last; /* the newest packet's event; count: not yet reported */
	__u64 packets;         /* in all */
	__u64 bytes;
	__u32 reported; /* jiffies of the last report */
	__u32 pad;
};

/* Constant configuration of the node, set before the programs are loaded. */
struct weft_config {
	__u32 hz;            /* jiffies a second */
	__u32 pend_max;      /* places in an endpoint's ring of unanswered flows */
	__u32 tcp_timeout;   /* s an established, silent TCP flow lives */
	__u32 any_timeout;   /* s any other answered flow lives */
	__u32 new_timeout;   /* s an unanswered flow lives */
	__u32 close_timeout; /* s a closed TCP flow lives */
	__u32 alive_every;   /* s between reports about a living flow */
	__u32 flow_events;   /* 0: no events */
	__u32 set_retval;    /* 0: the kernel has no bpf_set_retval in socket hooks */
	__u32 old_ct;        /* 1: flows are fetched from conntrack of another layout */
	__u32 snat_first;    /* ports that translated flows get if theirs is taken */
	__u32 snat_last;
	__u32 asked_max;   /* places for unanswered flows to pods' ports, at most as in maps.h */
	__u32 tunnel_port; /* UDP port of the tunnel between nodes; 0: there is none */
	__u64 host_netns;  /* cookie of the host's network namespace; 0: not known */
	/*
	 * Ranges of this node's pods that speak with pods of other nodes past the host's
	 * stack; a mask of 0: none of that family.
	 */
	__be32 direct4;
	__be32 direct4_mask;
	__u64 direct6[2];
	__u64 direct6_mask[2];
};

_Static_assert(sizeof(struct weft_ep_row) == 128, "weft_ep_row");
_Static_assert(sizeof(struct weft_ct) == 104, "weft_ct");
_Static_assert(sizeof(struct weft_ct4_row) == 128, "weft_ct4_row");
_Static_assert(sizeof(struct weft_ct4_key) == 16, "weft_ct4_key");
_Static_assert(sizeof(struct weft_ct6_key) == 40, "weft_ct6_key");
_Static_assert(sizeof(struct weft_pol_key) == 12, "weft_pol_key");
_Static_assert(sizeof(struct weft_pol) == 12, "weft_pol");
_Static_assert(sizeof(struct weft_flow) == 128, "weft_flow");
_Static_assert(sizeof(struct weft_drop_key) == 16, "weft_drop_key");
_Static_assert(sizeof(struct weft_ip) == 8, "weft_ip");
