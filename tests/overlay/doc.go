// SPDX-License-Identifier: Apache-2.0

// Package overlay tests the tunnel between nodes: nodes are network namespaces with
// an underlay between them, each with its own kernel programs and maps, and packets
// go through real VXLAN devices.
package overlay
