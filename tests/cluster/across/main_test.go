// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// suite is the cluster of all tests.
var suite = cluster.NewSuite(cluster.Options{Name: "test-across", Nodes: 3, Log: os.Stderr})

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
	*cluster.Cluster
	mode
	t *testing.T
}

// installed is the cluster with Weft in a mode; pods that were made in another one have
// its MTU. DNS is made anew.
func installed(t *testing.T, m mode) *world {
	t.Helper()
	w := &world{Cluster: suite.Cluster(t), mode: m, t: t}
	if err := w.BuildProgram(t.Context(), "across/probe", w.probe()); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(w.kubectl("get namespace weft-system --ignore-not-found -o", "jsonpath={.metadata.annotations.across-mode}")) == m.name {
		return w
	}
	w.shell("helm upgrade --install weft daemonset/chart --namespace weft-system --create-namespace --set apiServer.host=" +
		strings.TrimSuffix(cluster.APIServer, ":6443") + " --set masquerade.ipv6=true --set agent.maxUnavailable=100%" + m.values)
	w.shell("weft status --wait")
	w.kubectl("rollout restart deployment/coredns -n kube-system")
	w.kubectl("rollout status deployment/coredns -n kube-system --timeout=90s")
	w.kubectl("annotate namespace weft-system --overwrite across-mode=" + m.name)
	return w
}

// in is the same world in a subtest.
func (w *world) in(t *testing.T) *world {
	return &world{Cluster: w.Cluster, mode: w.mode, t: t}
}

// probe is the path of the program, on this machine and on all machines of the cluster.
func (w *world) probe() string { return filepath.Join(w.Repository(), "build/across/probe") }

// shell runs a command that must succeed, and gives both streams.
func (w *world) shell(command string) string {
	w.t.Helper()
	begun := time.Now()
	out, err := w.Shell(w.t.Context(), command)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(begun); took > 2*time.Second {
		w.t.Logf("%.60s: %.1f s", command, took.Seconds())
	}
	return out
}

// kubectl must succeed; what follows the words are arguments as they are.
func (w *world) kubectl(words string, args ...string) string {
	w.t.Helper()
	out, err := w.Kubectl(w.t.Context(), append(strings.Fields(words), args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// on runs a command on a node, which must succeed.
func (w *world) on(n int, command string) string {
	w.t.Helper()
	out, err := w.Node(n).Run(w.t.Context(), command)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (w *world) apply(yaml string) {
	w.t.Helper()
	if err := w.Apply(w.t.Context(), yaml); err != nil {
		w.t.Fatal(err)
	}
}

// afterwards is for what is done when a test, and its context, has ended.
func afterwards() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// finally does something when the test has ended; its failure is one of the test.
func (w *world) finally(do func(context.Context) error) {
	w.t.Cleanup(func() {
		ctx, cancel := afterwards()
		defer cancel()
		if err := do(ctx); err != nil {
			w.t.Error(err)
		}
	})
}

// eventually looks until there is no error, for at most so long.
func (w *world) eventually(atMost time.Duration, what string, look func() error) {
	w.t.Helper()
	until := time.Now().Add(atMost)
	for {
		err := look()
		if err == nil {
			return
		}
		if w.t.Context().Err() != nil || time.Now().After(until) {
			w.t.Fatalf("after %v not %s: %v", atMost, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// decode reads JSON that a program printed.
func decode[T any](t *testing.T, text string) T {
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
