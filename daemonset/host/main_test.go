// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInstallAndRemoveLeaveOnlyTheConfiguration(t *testing.T) {
	bin, root := t.TempDir(), t.TempDir()
	for _, name := range []string{"weft", "weft-agent", "weft-envoy", "weft-cni"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := place(bin, root); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(root, "etc/weft/config.yaml")
	if err := os.WriteFile(own, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := place(bin, root); err != nil {
		t.Fatalf("again: %v", err)
	}
	for _, name := range []string{"usr/local/bin/weft", "usr/local/bin/weft-agent", "usr/local/bin/weft-envoy", "opt/cni/bin/weft-cni"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, error %v, want it to be executable", name, info, err)
		}
	}
	for range 2 { // the second finds nothing, which is no error
		if err := takeOff(bin, root); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) != 1 || left[0] != own {
		t.Errorf("left: %v, error %v, want %s alone", left, err, own)
	}
	if content, err := os.ReadFile(own); err != nil || string(content) != "mine" {
		t.Errorf("the configuration is %q, error %v, want it untouched", content, err)
	}
}
