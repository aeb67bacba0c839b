// SPDX-License-Identifier: Apache-2.0

// Package outage lets parts of a cluster die while traffic runs that is counted: the
// agent, the operator, the API server, etcd, kubelet and containerd by kill -9, the
// API server for a while, and whole nodes. Nothing that runs may notice, what is new
// waits and then works, and what is deleted leaves nothing behind.
package outage
