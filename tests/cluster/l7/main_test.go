// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// settle is how long a change of policy may take to be in every kernel and in every
// Envoy, on a machine that has other work.
const settle = 30 * time.Second

// suite is the cluster of all tests.
var suite = framework.NewSuite(framework.Options{Name: "test-l7", Nodes: 2, Programs: []string{"traffic"},
	Pods: 90 * time.Second, Weft: 120 * time.Second})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct{ *framework.World }

// installed is the cluster with Weft and an Envoy on every node.
func installed(t *testing.T) *world {
	t.Helper()
	w := &world{suite.Installed(t, framework.Tunnel())}
	w.rolledOut(proxies)
	return w
}

// The chart's DaemonSets.
const (
	agents  = "daemonset/weft-agent"
	proxies = "daemonset/weft-envoy"
)

// rolledOut waits until all pods of a DaemonSet are of its newest form, and ready.
func (w *world) rolledOut(what string) {
	w.T.Helper()
	w.Kubectl("rollout status " + what + " -n weft-system --timeout=180s")
}
