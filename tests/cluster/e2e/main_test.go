// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// suite is the cluster of all tests.
var suite = framework.NewSuite(framework.Options{Name: "test-e2e", Nodes: 2, Programs: []string{"traffic"},
	Pods: 60 * time.Second, Weft: 90 * time.Second})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct{ *framework.World }

// installed is the cluster with Weft, installed as the README says.
func installed(t *testing.T) *world {
	t.Helper()
	w := &world{suite.Bare(t)}
	if !w.HasWeft() {
		for _, command := range readme(t, w.Repository())[:2] {
			w.Shell(command)
		}
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
	block = strings.ReplaceAll(block, "=ADDRESS", "="+cluster.RouterIPv4)
	commands := strings.Split(block, "\n")
	if len(commands) != 3 || !strings.HasPrefix(commands[0], "helm install weft ") ||
		commands[1] != "weft status --wait" || commands[2] != "weft connectivity test" {
		t.Fatalf("the README does not install by three commands, but by %q", commands)
	}
	return commands
}

// exit runs a command and gives its exit status, too.
func (w *world) exit(command string) (string, int) {
	w.T.Helper()
	out, err := w.Cluster.Shell(w.T.Context(), command)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.T.Fatalf("%v\n%s", err, out)
	}
	if exit == nil {
		return out, 0
	}
	return out, exit.ExitCode()
}
