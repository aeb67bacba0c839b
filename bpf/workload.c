/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The host-side device of a pod: what the pod sends, and what is sent to it. */
#include "lib/config.h"

SEC("tcx/ingress")
int weft_from_pod(struct __sk_buff *ctx)
{
	return TC_ACT_OK;
}

SEC("tcx/egress")
int weft_to_pod(struct __sk_buff *ctx)
{
	return TC_ACT_OK;
}
