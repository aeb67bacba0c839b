/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of the proxy and its rulesets (see abi_proxy.h), a part of maps.h. */
#pragma once

#include "abi.h"
#include <bpf/bpf_helpers.h>

/* A socket leaves weft_proxy by itself when it closes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weft_l7_row);
} weft_l7 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2 * WEFT_PROXY_BLOCKS * WEFT_PROXY_PLACES * WEFT_MAX_RULESET);
	__type(key, struct weft_proxy_key);
	__type(value, __u64);
} weft_proxy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_MAX_RULESET + 1);
	__type(key, __u32);
	__type(value, struct weft_ruleset_row);
} weft_ruleset SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_MAX_BOTH);
	__type(key, struct weft_both_key);
	__type(value, __u32);
} weft_both SEC(".maps");
