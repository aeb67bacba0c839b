// SPDX-License-Identifier: Apache-2.0

// Command weft-operator does what a cluster needs once: it numbers the labels of
// pods, divides pod ranges among nodes, keeps pods away from nodes that are not
// ready, and says which policies are valid. Of several operators one works; nodes
// go on without any.
package main

import (
	"github.com/weftmesh/weft/operator/uninstall"
	"github.com/weftmesh/weft/pkg/daemon"
)

func main() {
	root, _ := daemon.Command("weft-operator", "The operator of Weft on Kubernetes",
		`weft-operator allocates identities and pod ranges, and keeps pods away from nodes
whose agent is not ready. Several may run: the one that holds the Lease
weft-operator works, the others wait for it. TERM or INT ends it and releases the
Lease; HUP, or another content of its ConfigMap, makes it read logLevel again.`, run)
	root.AddCommand(uninstall.Command(), healthCommand())
	daemon.Main(root)
}
