// SPDX-License-Identifier: Apache-2.0

// Package bench measures a real cluster of three nodes: how long a pod waits for its
// network, and a policy for every kernel, and what an agent takes when it knows many
// endpoints of other nodes. Everything runs on one machine, and so all at once.
package bench
