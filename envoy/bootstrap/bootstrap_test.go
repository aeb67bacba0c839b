// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestBuild(t *testing.T) {
	got, err := Build(Config{Node: "node-1", RunDir: "/run/weft", MaxHeapBytes: 512 << 20, MaxConnections: 50000})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/bootstrap.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update writes it anew\n%s", golden, got)
	}
	envoy, err := sandbox.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, got, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "-l", "warn").CombinedOutput(); err != nil {
		t.Errorf("Envoy does not take it: %v\n%s", err, out)
	}
}

func TestBoundsAreNeeded(t *testing.T) {
	for _, c := range []Config{
		{RunDir: "run", MaxHeapBytes: 1, MaxConnections: 1}, {RunDir: "/run", MaxConnections: 1}, {RunDir: "/run", MaxHeapBytes: 1},
	} {
		if _, err := Build(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
