/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Care of conntrack, run by the agent (BPF_PROG_RUN), one run at a time. */
#include "lib/gc.h"
#include "lib/natgc.h"
#include "lib/sweep.h"

/* Marks the flows of some addresses, to be decided again with their next packet. */
SEC("syscall")
int weft_ct_sweep(struct weft_sweep *ctx)
{
	return weft_sweep_run(ctx);
}

/* Ends what has timed out, or reports what lives on and what floods left over, a part a run. */
SEC("syscall")
int weft_ct_gc(struct weft_gc *ctx)
{
	return weft_gc_run(ctx);
}

/* Ends translated flows that conntrack does not end. */
SEC("syscall")
int weft_nat_gc(struct weft_natgc *ctx)
{
	return weft_nat_gc_run(ctx);
}
