// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// suite is the cluster of all tests.
var suite = cluster.NewSuite(cluster.Options{Name: "test-e2e", Nodes: 2, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct {
	*cluster.Cluster
	t *testing.T
}

// bare is the cluster as it is, with the programs that tests need.
func bare(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: suite.Cluster(t), t: t}
	if err := w.BuildProgram(t.Context(), "traffic", w.traffic()); err != nil {
		t.Fatal(err)
	}
	return w
}

// traffic is the path of the program, on this machine and on nodes.
func (w *world) traffic() string { return filepath.Join(w.Repository(), "build/e2e/traffic") }

// installed is the cluster with Weft, installed as the README says.
func installed(t *testing.T) *world {
	t.Helper()
	w := bare(t)
	if _, err := w.Shell(t.Context(), "helm status weft --namespace weft-system"); err == nil {
		return w
	}
	for _, command := range readme(t, w.Repository())[:2] {
		w.shell(command)
	}
	return w
}

// readme gives the commands of the README's section about Kubernetes, as they are to be
// typed here.
func readme(t *testing.T, repository string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(content), "\n## Install on Kubernetes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, _ := strings.Cut(section, "\n```sh\n")
	block, _, _ = strings.Cut(block, "\n```\n")
	block = strings.ReplaceAll(block, "=ADDRESS", "="+strings.TrimSuffix(cluster.APIServer, ":6443"))
	commands := strings.Split(block, "\n")
	if len(commands) != 3 || !strings.HasPrefix(commands[0], "helm install weft ") ||
		commands[1] != "weft status --wait" || commands[2] != "weft connectivity test" {
		t.Fatalf("the README does not install by three commands, but by %q", commands)
	}
	return commands
}

// shell runs a command that must succeed, and gives both streams.
func (w *world) shell(command string) string {
	w.t.Helper()
	begun := time.Now()
	out, err := w.Shell(w.t.Context(), command)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(begun); took > time.Second {
		w.t.Logf("%s: %.1f s", command, took.Seconds())
	}
	return out
}

// exit runs a command and gives its exit status, too.
func (w *world) exit(command string) (string, int) {
	w.t.Helper()
	out, err := w.Shell(w.t.Context(), command)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%v\n%s", err, out)
	}
	if exit == nil {
		return out, 0
	}
	return out, exit.ExitCode()
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

// background is for what is done when a test, and its context, has ended.
func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// eventually looks until there is no error, for at most so long.
func (w *world) eventually(atMost time.Duration, what string, look func() error) {
	w.t.Helper()
	if err := within(w.t.Context(), atMost, look); err != nil {
		w.t.Fatalf("after %v not %s: %v", atMost, what, err)
	}
}

func within(ctx context.Context, atMost time.Duration, look func() error) error {
	until := time.Now().Add(atMost)
	for {
		err := look()
		if err == nil || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// holds looks again and again for so long: there must be no error.
func (w *world) holds(period time.Duration, what string, look func() error) {
	w.t.Helper()
	for until := time.Now().Add(period); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if err := look(); err != nil {
			w.t.Fatalf("no longer %s: %v", what, err)
		}
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
