// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// World is the cluster in the hands of a test: what it runs there is run in the test's
// context, and must succeed. The Cluster itself gives errors.
type World struct {
	*cluster.Cluster
	T       testing.TB
	options Options
}

// In is the same in a part of the test.
func (w *World) In(t testing.TB) *World {
	part := *w
	part.T = t
	return &part
}

// Programs is the folder of the programs, which this machine and nodes see; pods see it as /programs.
func (w *World) Programs() string {
	return filepath.Join(w.Repository(), "build/programs", w.options.Name)
}

// Program is the path of a program on this machine and on nodes.
func (w *World) Program(name string) string { return filepath.Join(w.Programs(), name) }

// Shell runs a command as a user would, and gives both streams.
func (w *World) Shell(command string) string {
	w.T.Helper()
	begun := time.Now()
	out, err := w.Cluster.Shell(w.T.Context(), command)
	if err != nil {
		w.T.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(begun); took > 2*time.Second {
		w.T.Logf("%.60s: %.1f s", command, took.Seconds())
	}
	return out
}

// Kubectl gives what it printed; what follows the words are arguments as they are.
func (w *World) Kubectl(words string, args ...string) string {
	w.T.Helper()
	out, err := w.Cluster.Kubectl(w.T.Context(), append(strings.Fields(words), args...)...)
	if err != nil {
		w.T.Fatal(err)
	}
	return out
}

// On runs a command on a node, and gives both streams.
func (w *World) On(n int, command string) string {
	w.T.Helper()
	out, err := w.Node(n).Run(w.T.Context(), command)
	if err != nil {
		w.T.Fatalf("%v\n%s", err, out)
	}
	return out
}

// Apply applies manifests, given as YAML.
func (w *World) Apply(yaml string) {
	w.T.Helper()
	if err := w.Cluster.Apply(w.T.Context(), yaml); err != nil {
		w.T.Fatal(err)
	}
}

// Always does something also when the test, and its context, has ended; its failure is
// one of the test.
func (w *World) Always(do func(context.Context) error) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		w.T.Error(err)
	}
}

// Finally does something when the test has ended.
func (w *World) Finally(do func(context.Context) error) {
	w.T.Cleanup(func() { w.Always(do) })
}

// Must runs kubectl also when the test has ended.
func (w *World) Must(words string, args ...string) {
	w.T.Helper()
	w.Always(func(ctx context.Context) error {
		_, err := w.Cluster.Kubectl(ctx, append(strings.Fields(words), args...)...)
		return err
	})
}

// Drop removes objects, also when the test has ended, and waits until they are gone.
func (w *World) Drop(words string) {
	w.T.Helper()
	w.Must("delete --ignore-not-found --timeout=60s " + words)
}
