// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"strconv"
	"strings"
	"testing"
)

// layer is a place in the order of imports: a package imports its own layer and
// those below.
type layer int

const (
	layerModel   layer = iota // domain types, standard library only
	layerSupport              // no knowledge of the domain's logic
	layerLogic                // pure functions: no I/O, no clock, no logger
	layerState                // tables and writers
	layerEdge                 // what talks to the kernel, to sources, to consumers
	layerProgram              // binaries, and what only they do
)

// layers gives each folder its place; the longest prefix counts. A new folder
// needs a line here.
func layers() map[string]layer {
	return map[string]layer{
		".": layerSupport, "pkg/model": layerModel,
		"pkg/strictyaml": layerSupport, "pkg/logging": layerSupport, "pkg/metrics": layerSupport,
		"pkg/attachment": layerSupport, "pkg/cgroup": layerSupport, "pkg/version": layerSupport, "pkg/agentsock": layerSupport,
		"pkg/datapath/weftbpf": layerSupport,
		"pkg/policy":           layerLogic, "pkg/identity": layerLogic, "pkg/ipam": layerLogic, "pkg/lb": layerLogic, "pkg/tunnel": layerLogic,
		"pkg/state": layerState,
		"pkg/api":   layerSupport, "pkg/config": layerEdge, "pkg/daemon": layerEdge, "pkg/convert": layerEdge,
		"pkg/reconcile": layerEdge, "pkg/datapath": layerEdge, "pkg/k8s": layerEdge, "pkg/manifest": layerEdge,
		"pkg/flow": layerEdge, "pkg/podnet": layerEdge, "envoy": layerEdge,
		"agent": layerProgram, "operator": layerProgram, "cli": layerProgram, "daemonset": layerProgram,
		"tests": layerProgram,
	}
}

// foreignToLogic lists what logic must do without: I/O, the kernel, the API.
func foreignToLogic() []string {
	return []string{"os", "net", "net/http", "log/slog", "os/exec", "github.com/cilium/ebpf",
		"github.com/vishvananda/netlink", "google.golang.org/grpc", "k8s.io", "github.com/fsnotify"}
}

func TestImportsPointOneWay(t *testing.T) {
	unknown := make(map[string]bool)
	for _, f := range goFiles(t) {
		from, ok := layerOf(f.dir())
		if !ok && unknown[f.dir()] {
			continue
		}
		if !ok {
			unknown[f.dir()] = true
			t.Errorf("%s: folder has no layer; give it one in tests/repo/imports_test.go", f.dir())
			continue
		}
		if f.test() {
			continue // a test may build its subject's surroundings
		}
		for _, spec := range f.tree.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			checkImport(t, f, from, imported)
		}
	}
}

func checkImport(t *testing.T, f goFile, from layer, imported string) {
	t.Helper()
	own, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case imported == module:
	case ours:
		to, ok := layerOf(own)
		if !ok {
			return // reported for the folder itself
		}
		if to > from {
			t.Errorf("%s imports %s, which is above it", f.name, own)
		}
		if strings.HasPrefix(own, "pkg/api/") && from < layerEdge && !strings.HasPrefix(f.dir(), "pkg/api") {
			t.Errorf("%s imports API types; convert them in pkg/convert or further out", f.name)
		}
		if strings.HasPrefix(own, "tests/") && !strings.HasPrefix(f.dir(), "tests/") {
			t.Errorf("%s imports %s: the product does not use its tests", f.name, own)
		}
	case from == layerModel && strings.Contains(strings.Split(imported, "/")[0], "."):
		t.Errorf("%s imports %s: the model uses the standard library only", f.name, imported)
	case from == layerLogic || from == layerModel:
		for _, no := range foreignToLogic() {
			if imported == no || strings.HasPrefix(imported, no+"/") && strings.Contains(no, ".") {
				t.Errorf("%s imports %s: decisions are pure functions", f.name, imported)
			}
		}
	}
}

func layerOf(dir string) (layer, bool) {
	all := layers()
	for d := dir; ; {
		if l, ok := all[d]; ok {
			return l, true
		}
		i := strings.LastIndex(d, "/")
		if i < 0 {
			return 0, false
		}
		d = d[:i]
	}
}
