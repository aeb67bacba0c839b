/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The device of the tunnel between nodes: what comes out of it, and what goes in. */
#include "lib/overlay.h"

SEC("tcx/ingress")
int weft_from_overlay(struct __sk_buff *ctx)
{
	return TC_ACT_SHOT;
}

SEC("tcx/egress")
int weft_to_overlay(struct __sk_buff *ctx)
{
	return TC_ACT_SHOT;
}
