// SPDX-License-Identifier: Apache-2.0

// Package speed holds benchmarks of one host: connections between pods and to
// services beside what the kernel does without Weft, how long changes take until
// the kernel has them, memory, and the export of flows. Each runs in a sandbox.
package speed
