// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// tunnelEnv says how pods' packets go between nodes: none (or not set), or vxlan.
const tunnelEnv = "WEFT_TEST_TUNNEL"

// suite is the cluster of all tests. The first two nodes have the traffic; what happens
// to whole nodes happens to the third.
var suite = cluster.NewSuite(cluster.Options{Name: "test-outage", Nodes: 3, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct {
	*cluster.Cluster
	t *testing.T
}

// installed is the cluster with Weft, and the program that tests need.
func installed(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: suite.Cluster(t), t: t}
	if err := w.BuildProgram(t.Context(), "traffic", w.traffic()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Shell(t.Context(), "helm status weft --namespace weft-system"); err == nil {
		return w
	}
	install := "helm install weft daemonset/chart --namespace weft-system --create-namespace --set apiServer.host=" +
		strings.TrimSuffix(cluster.APIServer, ":6443")
	if tunnel := os.Getenv(tunnelEnv); tunnel != "" && tunnel != "none" {
		install += " --set tunnel.protocol=" + tunnel
	}
	w.shell(install)
	w.settled()
	return w
}

// again is the cluster for a part of a test that has it with Weft installed.
func again(t *testing.T) *world {
	t.Helper()
	return &world{Cluster: suite.Cluster(t), t: t}
}

// traffic is the path of the program, on this machine and on nodes.
func (w *world) traffic() string { return filepath.Join(w.Repository(), "build/outage/traffic") }

// settled waits until Weft is ready everywhere.
func (w *world) settled() {
	w.t.Helper()
	w.shell("weft status --wait --timeout 120s")
}

// shell runs a command that must succeed, and gives both streams.
func (w *world) shell(command string) string {
	w.t.Helper()
	out, err := w.Shell(w.t.Context(), command)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// kubectl must succeed.
func (w *world) kubectl(args string) string {
	w.t.Helper()
	out, err := w.Kubectl(w.t.Context(), strings.Fields(args)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// node runs a command on a node, which must succeed.
func (w *world) node(n int, command string) string {
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

// atEnd is for what is done when a test, and its context, has ended.
func atEnd() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 90*time.Second)
}

// drop removes objects, also when the test has ended, and waits until they are gone.
func (w *world) drop(args ...string) {
	ctx, cancel := atEnd()
	defer cancel()
	if _, err := w.Kubectl(ctx, append([]string{"delete", "--ignore-not-found", "--timeout=60s"}, args...)...); err != nil {
		w.t.Error(err)
	}
}

// eventually looks until there is no error, for at most so long; it gives the time it took.
func (w *world) eventually(atMost time.Duration, what string, look func() error) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for {
		err := look()
		took := time.Since(begun)
		if err == nil {
			return took
		}
		if took > atMost || w.t.Context().Err() != nil {
			w.t.Fatalf("after %v not %s: %v", atMost, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// holds looks again and again for so long: there must be no error.
func (w *world) holds(period time.Duration, what string, look func() error) {
	w.t.Helper()
	for until := time.Now().Add(period); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		if err := look(); err != nil {
			w.t.Fatalf("no longer %s: %v", what, err)
		}
	}
}

// lines are those that two texts do not have in common.
func lines(before, now string) error {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]++
	}
	var differ []string
	for line := range strings.Lines(now) {
		if count[line]--; count[line] < 0 {
			differ = append(differ, "new:  "+line)
		}
	}
	for line, n := range count {
		if n > 0 {
			differ = append(differ, "gone: "+line)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return fmt.Errorf("%d lines differ:\n%s", len(differ), strings.Join(differ, ""))
}
