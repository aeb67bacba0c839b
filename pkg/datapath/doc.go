// SPDX-License-Identifier: Apache-2.0

// Package datapath stands between the desired rows and the kernel: it loads the
// programs, pins and adopts their maps, attaches them to devices, and writes and
// reads rows. It decides nothing; every method that writes is idempotent, so
// that a reconciler may repeat it.
//
// What lies under the bpffs directory of the configuration:
//
//	maps/<name>_v<version>   maps; the version moves with the layout
//	links/<device>_in, _out  tcx links of weft_from_pod and weft_to_pod
//	sockets/<hook>           links of the socket programs on the cgroup
//	unswept                  there while flows may have to be decided again
package datapath
