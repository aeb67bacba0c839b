// SPDX-License-Identifier: Apache-2.0

// Package scale has tests of what a cluster of many nodes costs: the real operator, a
// real API server, and the part of the agent that lives of Kubernetes once for each
// node, with a datapath in memory. They run where the tag cluster is set.
package scale
