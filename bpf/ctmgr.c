/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Care of conntrack, run by the agent (BPF_PROG_RUN). */
#include "lib/config.h"

SEC("syscall")
int weft_ct_sweep(struct weft_sweep *ctx)
{
	ctx->matched = 0;
	return 0;
}

SEC("syscall")
int weft_ct_gc(struct weft_gc *ctx)
{
	ctx->live = 0;
	return 0;
}
