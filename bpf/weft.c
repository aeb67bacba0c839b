/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One object, so that all programs of a node share its maps and are loaded as
 * one collection. A hook each has its own file.
 */
#include "workload.c"
#include "uplink.c"
#include "overlay.c"
#include "ctmgr.c"
#include "socket.c"
#include "proxy.c"
#include "sockiter.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
