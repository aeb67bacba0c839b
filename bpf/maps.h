/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map. The agent pins them under <bpffs>/weft/maps/<name>_v<WEFT_..._V>;
 * a version moves when the layout does. Sizes are defaults; the agent may set
 * others before loading.
 */
#pragma once

#include "abi.h"
#include <bpf/bpf_helpers.h>

#define WEFT_MAX_EP 4096
#define WEFT_MAX_POLSET 4096
#define WEFT_IF_DIRECT 65536
#define WEFT_PEND 512
#define WEFT_CTN (256 * WEFT_PEND)

/* Device -> slot: an array for the first indexes, a hash for the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_IF_DIRECT);
	__type(key, __u32);
	__type(value, __u32);
} weft_if SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_EP);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} weft_if_hi SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_MAX_EP);
	__type(key, __u32);
	__type(value, struct weft_ep_row);
} weft_ep SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_MAX_EP);
	__type(key, __u32);
	__type(value, struct weft_epstat_row);
} weft_epstat SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 512000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_ip4_key);
	__type(value, struct weft_ip);
} weft_ip4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 512000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_ip6_key);
	__type(value, struct weft_ip);
} weft_ip6 SEC(".maps");

struct weft_polset_inner {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_pol_key);
	__type(value, struct weft_pol);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEFT_MAX_POLSET);
	__type(key, __u32);
	__array(values, struct weft_polset_inner);
} weft_polsets SEC(".maps");

/* Answered flows. Least recently used ones make room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct weft_ct4_key);
	__type(value, struct weft_ct4_row);
} weft_ct4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct weft_ct6_key);
	__type(value, struct weft_ct6_row);
} weft_ct6 SEC(".maps");

/*
 * Unanswered flows, apart so that they never push out answered ones. Each
 * endpoint has a ring of their keys (weft_pend): a new one overwrites, and so
 * deletes, the endpoint's own oldest.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_CTN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_ct4_key);
	__type(value, struct weft_ct);
} weft_ctn4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_CTN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_ct6_key);
	__type(value, struct weft_ct);
} weft_ctn6 SEC(".maps");

struct weft_pend_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_PEND);
	__type(key, __u32);
	__type(value, struct weft_pend_row);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, WEFT_MAX_EP);
	__type(key, __u32);
	__array(values, struct weft_pend_inner);
} weft_pend SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct weft_frag_key);
	__type(value, struct weft_frag_row);
} weft_frag SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEFT_REASON_MAX * 2);
	__type(key, __u32);
	__type(value, struct weft_counter);
} weft_metrics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct weft_drop_key);
	__type(value, struct weft_drop);
} weft_drops SEC(".maps");

#define WEFT_EVENTS_SIZE (1 << 22) /* bytes */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, WEFT_EVENTS_SIZE);
} weft_events SEC(".maps");

/* Events that found no room in weft_events. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} weft_lost SEC(".maps");

/*
 * Moved by every sweep, before it looks at the flows. Who decides a flow reads it
 * before and after: if it moved, the identities used may be old, and the flow is
 * marked stale.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} weft_gen SEC(".maps");

/*
 * What the running sweep looks for, with masks made of the prefix lengths; the
 * callbacks cannot reach their program's argument. Scratch: not pinned.
 */
struct weft_swept_row {
	__u32 count;
	struct {
		__be32 addr[4];
		__be32 mask[4];
		__u8 family;
		__u8 bits;
		__u8 pad[2];
	} prefix[WEFT_SWEEP_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weft_swept_row);
} weft_swept SEC(".maps");

/* Services (see abi.h). Elements take memory only when they are there. */
#define WEFT_MAX_FRONT 65536
#define WEFT_MAX_BACKEND (1 << 17)
#define WEFT_MAX_SLOT (1 << 18)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_FRONT);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_svc4_key);
	__type(value, struct weft_svc);
} weft_svc4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_FRONT);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_svc6_key);
	__type(value, struct weft_svc);
} weft_svc6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_SLOT);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_slot_key);
	__type(value, __u32);
} weft_svc_slot SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_BACKEND);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct weft_backend_row);
} weft_backend SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct weft_hit_key);
	__type(value, __u64);
} weft_svc_hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct weft_client_key);
	__type(value, struct weft_client_row);
} weft_affinity SEC(".maps");

/* The pairs of a socket live and die with it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weft_sock_row);
} weft_sock SEC(".maps");

/* Pairs that found no place in their socket, and how many those were. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct weft_pair_key);
	__type(value, struct weft_pair);
} weft_sock_lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} weft_sock_over SEC(".maps");

/*
 * Translated flows, two keys each, made and removed together (lib/nat.h). What
 * finds no room is refused; nothing is pushed out, as that would break a flow.
 */
#define WEFT_MAX_NAT4 131072
#define WEFT_MAX_NAT6 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_NAT4);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_nat4_key);
	__type(value, struct weft_nat);
} weft_nat4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_NAT6);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_nat6_key);
	__type(value, struct weft_nat);
} weft_nat6 SEC(".maps");

/* Devices by which packets leave the cluster. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct weft_uplink_row);
} weft_uplink SEC(".maps");

/* The host's addresses: flows that left with one that it has no more are over. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_home_key);
	__type(value, __u32);
} weft_home SEC(".maps");

/* Whether any port of the host's is a pod's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weft_ports_row);
} weft_ports SEC(".maps");

/*
 * Unanswered flows from outside to such ports: a new one takes the place of the
 * oldest, whose keys go. Conntrack's rings do not bound these, as a packet may end
 * between the uplink and the pod's device.
 */
#define WEFT_MAX_ASKED 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_MAX_ASKED);
	__type(key, __u32);
	__type(value, struct weft_asked_row);
} weft_asked SEC(".maps");

/* Sockets ended because their backend is gone: [0] TCP, [1] UDP. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} weft_sock_ended SEC(".maps");

#include "maps_proxy.h"

/* The tunnel between nodes (see abi_tunnel.h); one place each where there is none. */
#define WEFT_MAX_NODE 8192
#define WEFT_MAX_KNOWN 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_MAX_NODE);
	__type(key, __u32);
	__type(value, struct weft_node_row);
} weft_node SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_NODE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_outer_key);
	__type(value, __u32);
} weft_outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weft_tunnel_row);
} weft_tunnel SEC(".maps");

/* The identities that policy sets know: any other VNI counts as unknown. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_KNOWN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} weft_known SEC(".maps");
