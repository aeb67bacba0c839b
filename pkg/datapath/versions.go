// SPDX-License-Identifier: Apache-2.0

package datapath

// mapPin tells how a map outlives the agent.
type mapPin struct {
	name    string
	version int
	// keep: when the layout moved, entries are carried over by member name, so
	// that the new programs find what the old ones left. The others start empty.
	keep bool
	// live: programs write entries while they are carried over, so that a second
	// pass, after the programs were replaced, fetches what came meanwhile.
	live bool
	// old is the map by which programs look entries of the old layout up while
	// they are carried over; empty where they cannot.
	old string
}

// pinnedMaps is the one table of the versions of all maps. A change of a key or
// value in bpf/abi.h, or of a type in bpf/maps.h, moves the version here. Another
// size alone does not: what is pinned steps aside, and is carried over all the same.
func pinnedMaps() []mapPin {
	return []mapPin{
		{name: "weft_if", version: 1, keep: true},
		{name: "weft_if_hi", version: 1, keep: true},
		{name: "weft_ep", version: 1, keep: true},
		{name: "weft_epstat", version: 1, keep: true},
		{name: "weft_ip4", version: 1, keep: true},
		{name: "weft_ip6", version: 1, keep: true},
		{name: "weft_polsets", version: 1, keep: true},
		{name: "weft_ct4", version: conntrackVersion, keep: true, live: true, old: "weft_ct4_old"},
		{name: "weft_ct6", version: conntrackVersion, keep: true, live: true, old: "weft_ct6_old"},
		{name: "weft_ctn4", version: conntrackVersion, keep: true, live: true, old: "weft_ctn4_old"},
		{name: "weft_ctn6", version: conntrackVersion, keep: true, live: true, old: "weft_ctn6_old"},
		{name: "weft_pend", version: 1, keep: true},
		{name: "weft_frag", version: 1},
		{name: "weft_metrics", version: 2},
		{name: "weft_drops", version: 1},
		{name: "weft_events", version: 1},
		{name: "weft_lost", version: 1},
		{name: "weft_gen", version: 1},
		{name: "weft_svc4", version: 1, keep: true},
		{name: "weft_svc6", version: 1, keep: true},
		{name: "weft_svc_slot", version: 1, keep: true},
		{name: "weft_backend", version: 2, keep: true},
		{name: "weft_svc_hits", version: 1},
		{name: "weft_affinity", version: 1, keep: true, live: true},
		{name: "weft_nat4", version: 1, keep: true, live: true},
		{name: "weft_nat6", version: 1, keep: true, live: true},
		{name: "weft_uplink", version: 1, keep: true},
		{name: "weft_home", version: 1, keep: true},
		{name: "weft_ports", version: 1, keep: true},
		{name: "weft_asked", version: 1},
		{name: "weft_node", version: 1, keep: true},
		{name: "weft_outer", version: 1, keep: true},
		{name: "weft_tunnel", version: 1, keep: true},
		{name: "weft_known", version: 1, keep: true},
		{name: "weft_l7", version: 2, keep: true},
		{name: "weft_proxy", version: 1},
		{name: "weft_ruleset", version: 2, keep: true},
		{name: "weft_both", version: 1},
		{name: "weft_sock", version: 1},
		{name: "weft_sock_lru", version: 1},
		{name: "weft_sock_over", version: 1},
		{name: "weft_sock_ended", version: 1},
	}
}
