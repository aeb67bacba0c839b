// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
	"github.com/weftmesh/weft/tests/vm/script"
)

func TestMain(m *testing.M) {
	if !level.Long() {
		fmt.Println("the tests in virtual machines run at the long level only: make test-long")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	repo   = "/repo"          // where a piece of the repository lies in the machine
	within = 40 * time.Minute // for a package's tests
	// slower is by how much the deadlines of the demo are longer in an emulated
	// machine.
	slower = 10
)

// TestKernelsOfDistributions loads the kernel programs and plays the demo on the
// kernels that Debian ships: 6.1 has no tcx.
func TestKernelsOfDistributions(t *testing.T) {
	bin, err := sandbox.BinDir()
	must(t, err)
	cache := filepath.Join(filepath.Dir(bin), "vm")
	for _, meta := range []string{"linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"} {
		t.Run(meta, func(t *testing.T) {
			k, err := fetchKernel(t.Context(), meta, cache)
			must(t, err)
			t.Logf("kernel %s", k.release)
			m := machine{kernel: k, memoryMB: 3072, cpus: 2, init: built(t, cache, "init", "build", "./tests/vm/init")}
			m.modules, err = k.bundle(t.Context(), "veth", "sch_ingress", "cls_bpf", "overlay", "dummy")
			must(t, err)
			m.files = map[string]string{repo + "/go.mod": "../../go.mod"}
			for _, name := range []string{"weft-agent", "weft", "weft-cni"} {
				m.files[repo+"/build/bin/"+name] = filepath.Join(bin, name)
			}
			m.files[repo+"/build/bin/demo"] = built(t, cache, "demo", "build", "./tests/demo")
			m.folders = map[string]string{repo + "/tests/demo/manifests": "../demo/manifests"}
			m.test(t, cache, "verifier", "./tests/bpf", "-test.v", "-test.run=^TestVerifier$")
			m.commands = append(m.commands, script.Command{Name: "demo", Dir: repo, WithinSeconds: 900,
				Args: []string{"build/bin/demo", "-stay", "no", "-envoy", "", "-slower", fmt.Sprint(slower)}})
			m.expect(t, cache)
		})
	}
}

// test adds a package's tests to what the machine runs.
func (m *machine) test(t *testing.T, cache, name, pkg string, args ...string) {
	t.Helper()
	at := repo + "/build/" + name + ".test"
	m.files[at] = built(t, cache, name+".test", "test", "-c", pkg)
	m.commands = append(m.commands, script.Command{Name: name, Dir: repo, WithinSeconds: int(within.Seconds()), Args: append([]string{at}, args...)})
}

// expect runs the machine and wants every command to end well.
func (m machine) expect(t *testing.T, cache string) {
	t.Helper()
	log, err := os.Create(filepath.Join(cache, m.kernel.release+".log"))
	must(t, err)
	defer log.Close()
	results, err := m.run(t.Context(), filepath.Join(t.TempDir(), "initramfs"), log)
	must(t, err)
	for _, c := range m.commands {
		r, ok := results[c.Name]
		if !ok {
			t.Errorf("%s did not run", c.Name)
			continue
		}
		t.Logf("%s on %s: status %d in %s", c.Name, m.kernel.release, r.status, r.took.Round(time.Second))
		if r.status != 0 {
			t.Errorf("%s failed:\n%s", c.Name, r.output)
		}
	}
}

// built is a program of this repository, as the machine gets it.
func built(t *testing.T, cache, name string, goArgs ...string) string {
	t.Helper()
	to := filepath.Join(cache, name)
	pkg := goArgs[len(goArgs)-1]
	args := append(goArgs[:len(goArgs)-1:len(goArgs)-1], "-trimpath", "-ldflags=-s -w", "-o", to, pkg)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
	return to
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
