// SPDX-License-Identifier: Apache-2.0

package across

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// suite is the cluster of all tests.
var suite = framework.NewSuite(framework.Options{Name: "test-across", Nodes: 3, Programs: []string{"across/probe"}})

func TestMain(m *testing.M) { suite.Main(m) }

// settle is how long a change may take to be in every kernel, on a machine that has
// other work.
const settle = 30 * time.Second

// mode is how packets go from node to node.
type mode struct {
	name   string
	values string // of the chart
	mtu    int    // of pods, where devices have 1500
	tunnel bool
}

func native() mode { return mode{name: "native", mtu: 1500} }

func vxlan() mode {
	return mode{name: "vxlan", values: " --set tunnel.protocol=vxlan", mtu: 1450, tunnel: true}
}

// lastMode is that of tests for which the mode makes no difference.
func lastMode() mode { return vxlan() }

// world is the cluster, with Weft in a mode.
type world struct {
	*framework.World
	mode
}

// installed is the cluster with Weft in a mode; pods that were made in another one have
// its MTU. DNS is made anew.
func installed(t *testing.T, m mode) *world {
	t.Helper()
	w := &world{suite.Bare(t), m}
	if strings.TrimSpace(w.Kubectl("get namespace weft-system --ignore-not-found -o", "jsonpath={.metadata.annotations.across-mode}")) == m.name {
		return w
	}
	w.Shell("helm upgrade --install" + framework.Chart + " --set masquerade.ipv6=true --set agent.maxUnavailable=100%" + m.values)
	w.Shell("weft status --wait")
	w.Kubectl("rollout restart deployment/coredns -n kube-system")
	w.Kubectl("rollout status deployment/coredns -n kube-system --timeout=90s")
	w.Kubectl("annotate namespace weft-system --overwrite across-mode=" + m.name)
	return w
}

// decode reads JSON that a program printed.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return out
}

// quoted is JSON as one word of a shell.
func quoted(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %T: %v", v, err)) // a programmer's error
	}
	return "'" + string(text) + "'"
}
