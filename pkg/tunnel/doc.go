// SPDX-License-Identifier: Apache-2.0

// Package tunnel decides, by pure functions, where the tunnels between nodes end and
// what numbers the kernel knows the nodes by.
package tunnel
