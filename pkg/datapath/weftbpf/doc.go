// SPDX-License-Identifier: Apache-2.0

// Package weftbpf holds the compiled kernel programs and the Go types of
// everything that crosses to them, both generated from bpf/ by `make generate`.
// The objects are committed: building and running Weft needs no clang.
package weftbpf

//go:generate ../../../build/tools/bpf2go -go-package weftbpf -target bpfel -cc clang-19 -strip llvm-strip-19 -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -mcpu=v3" -type weft_dir -type weft_action -type weft_reason -type weft_reserved -type weft_ep_flag -type weft_ct_flag -type weft_flow_type -type weft_ep_row -type weft_ip4_key -type weft_ip6_key -type weft_ip -type weft_pol_key -type weft_pol -type weft_ct4_key -type weft_ct6_key -type weft_ct -type weft_ct4_row -type weft_ct6_row -type weft_pend_row -type weft_epstat_row -type weft_frag_key -type weft_frag_row -type weft_counter -type weft_flow -type weft_drop_key -type weft_drop -type weft_sweep_prefix -type weft_sweep -type weft_gc -type weft_algorithm -type weft_backend_state -type weft_svc_flag -type weft_ports_row -type weft_asked_row -type weft_svc4_key -type weft_svc6_key -type weft_svc -type weft_slot_key -type weft_backend_row -type weft_hit_key -type weft_client_key -type weft_client_row -type weft_nat_kind -type weft_nat_flag -type weft_nat4_key -type weft_nat6_key -type weft_nat -type weft_uplink_row -type weft_natgc -type weft_home_key -type weft_gone -type weft_node_row -type weft_outer_key -type weft_tunnel_row -type weft_l7_row -type weft_proxy_key -type weft_ruleset_row -type weft_leg Bpf ../../../bpf/weft.c
