// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestInstallAndRemove(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "built")
	if err := os.WriteFile(src, []byte("binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Binary: src, BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), Socket: "/run/other.sock"}
	for range 2 {
		if err := Install(c); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(filepath.Join(dir, "bin", "weft-cni"))
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the plugin: %v, %v", st, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "net.d", "05-weft.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cniVersion":"1.0.0","cniVersions":["0.4.0","1.0.0"],"name":"weft",` +
		`"plugins":[{"type":"weft-cni","socket":"/run/other.sock"}]}`
	var got bytes.Buffer
	if err := json.Compact(&got, data); err != nil || got.String() != want {
		t.Errorf("the configuration is %s, %v", data, err)
	}
	for range 2 {
		if err := Remove(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "net.d"} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", d, left, err)
		}
	}
}

func TestNothingIsInstalledWithoutThePlugin(t *testing.T) {
	dir := t.TempDir()
	c := Config{Binary: filepath.Join(dir, "none"), BinDir: dir, ConfDir: dir}
	if err := Install(c); err == nil {
		t.Error("no error")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDefaultPaths(t *testing.T) {
	want := []string{"/etc/cni/net.d/05-weft.conflist", "/opt/cni/bin/weft-cni"}
	c := Config{}.withDefaults()
	if got := []string{c.confList(), c.plugin()}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// The configuration under the name of 0.1.0 goes when the new one is there, and
// with Weft, as do files that were not finished.
func TestNothingOfEarlierInstallationsIsLeft(t *testing.T) {
	dir := t.TempDir()
	c := Config{Binary: filepath.Join(dir, "built"), BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d")}
	write := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := func(sub string) (out []string) {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	write("built")
	write("net.d/10-weft.conflist")
	write("net.d/10-other.conflist")
	if err := Install(c); err != nil {
		t.Fatal(err)
	}
	if got, want := names("net.d"), []string{"05-weft.conflist", "10-other.conflist"}; !reflect.DeepEqual(got, want) {
		t.Errorf("installed: %v, want %v", got, want)
	}
	for _, f := range []string{"net.d/10-weft.conflist", "net.d/.05-weft.conflist.12", "bin/.weft-cni.34", "bin/other"} {
		write(f)
	}
	if err := Remove(c); err != nil {
		t.Fatal(err)
	}
	if got, want := append(names("net.d"), names("bin")...), []string{"10-other.conflist", "other"}; !reflect.DeepEqual(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
}
