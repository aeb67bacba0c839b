/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Constant configuration: set in the object before it is loaded, so that the
 * verifier sees constants and drops the branches that are off.
 */
#pragma once

#include "../maps.h"

const volatile struct weft_config weft_cfg = {
	.hz = 250,
	.pend_max = WEFT_PEND,
	.tcp_timeout = 8000,
	.any_timeout = 60,
	.new_timeout = 60,
	.close_timeout = 10,
	.alive_every = 60,
	.flow_events = 1,
	.set_retval = 1,
	.snat_first = 32768,
	.snat_last = 65535,
	.asked_max = WEFT_MAX_ASKED,
};

/*
 * Names the types that no map or program names in full, so that they are in the
 * object's BTF and Go types can be generated from them. Nothing reads it.
 */
const volatile struct weft_types {
	enum weft_dir dir;
	enum weft_action action;
	enum weft_reason reason;
	enum weft_reserved reserved;
	enum weft_ep_flag ep_flag;
	enum weft_ct_flag ct_flag;
	enum weft_flow_type flow_type;
	enum weft_algorithm algorithm;
	enum weft_backend_state backend_state;
	enum weft_svc_flag svc_flag;
	enum weft_nat_kind nat_kind;
	enum weft_nat_flag nat_flag;
	enum weft_leg leg;
	enum weft_gc_part gc_part;
	struct weft_pol_key pol_key[0];
	struct weft_pol pol[0];
	struct weft_pend_row pend[0];
	struct weft_sweep sweep[0];
	struct weft_gc gc[0];
	struct weft_natgc nat_gc[0];
	struct weft_gone gone[0];
} weft_types = {};
