// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"errors"
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

// settle is how long a change of policy may take to be in every kernel and in every
// Envoy, on a machine that has other work.
const settle = 30 * time.Second

// suite is the cluster of all tests.
var suite = cluster.NewSuite(cluster.Options{Name: "test-l7", Nodes: 2, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct {
	*cluster.Cluster
	t *testing.T
}

// installed is the cluster with Weft and an Envoy on every node, and the program that
// tests need.
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
	w.shell("weft status --wait --timeout 120s")
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
	w.t.Helper()
	w.kubectl("rollout status " + what + " -n weft-system --timeout=180s")
}

// traffic is the path of the program, on this machine and on nodes.
func (w *world) traffic() string { return filepath.Join(w.Repository(), "build/l7/traffic") }

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

// must runs kubectl also when the test has ended.
func (w *world) must(args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := w.Kubectl(ctx, args...); err != nil {
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

// wants is an error if the text has not every part.
func wants(text string, parts ...string) error {
	var err error
	for _, p := range parts {
		if !strings.Contains(text, p) {
			err = errors.Join(err, fmt.Errorf("it does not say %q", p))
		}
	}
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, text)
	}
	return nil
}
