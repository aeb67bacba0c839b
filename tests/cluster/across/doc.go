// SPDX-License-Identifier: Apache-2.0

// Package across tests what nodes have between them, on a real Kubernetes of three nodes
// and both families, once with native routing and once with VXLAN: who reaches whom, what
// policy decides about it and how that is told, the sizes of packets, what is forged, and
// identities that come and go faster than anybody hears of them.
package across
