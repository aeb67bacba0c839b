// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func keys() *rapid.Generator[Key] {
	return rapid.Custom(func(t *rapid.T) Key {
		return Key{
			ContainerID: rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}`).Draw(t, "container"),
			IfName:      rapid.StringMatching(`[-a-z.@_é]{1,7}`).Filter(func(s string) bool { return ValidateIfName(s) == nil }).Draw(t, "ifname"),
		}
	})
}

func TestNamesAreUniqueAndFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys().Draw(t, "a"), keys().Draw(t, "b")
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		if (a == b) != (a.FileName() == b.FileName()) {
			t.Fatalf("%s and %s have the files %s and %s", a, b, a.FileName(), b.FileName())
		}
		if strings.ContainsAny(a.FileName(), "/\x00") || strings.HasPrefix(a.FileName(), ".") {
			t.Fatalf("bad file name %q", a.FileName())
		}
		if dev := a.HostDevice(); !IsHostDevice(dev) || ValidateIfName(dev) != nil {
			t.Fatalf("bad device name %q", dev)
		}
		if m := a.PodMAC(); m[0]&3 != 2 || m == a.HostMAC() {
			t.Fatalf("bad MACs %v, %v", m, a.HostMAC())
		}
	})
	if (Key{"a-b", "c"}).FileName() == (Key{"a", "b-c"}).FileName() {
		t.Error("the '-' of an interface name is taken for the one in between")
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	for _, k := range []Key{
		{"", "eth0"}, {"../x", "eth0"}, {"a/b", "eth0"}, {".a", "eth0"}, {strings.Repeat("a", 129), "eth0"}, {"a\n", "eth0"},
		{"a", ""}, {"a", "."}, {"a", ".."}, {"a", "a/b"}, {"a", "a:b"}, {"a", "a b"}, {"a", "a%d"}, {"a", "all"},
		{"a", "sixteencharacter"}, {"a", "a\x00"}, {"a", "a\xff"},
	} {
		if err := k.Validate(); err == nil {
			t.Errorf("%q was taken", k)
		}
	}
	for _, name := range []string{"eth0", "wf", "wf123456789", "wfGGGGGGGGGG", "wf12345678901"} {
		if IsHostDevice(name) {
			t.Errorf("%q was taken for one of ours", name)
		}
	}
}

func TestTombstones(t *testing.T) {
	dir := t.TempDir()
	if got, err := Tombstones(dir); err != nil || got != nil {
		t.Fatalf("none: %v, %v", got, err)
	}
	a, b := Key{"a", "eth0"}, Key{"b-1", "net-1"}
	for _, k := range []Key{b, a, a} {
		if err := WriteTombstone(dir, k); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"bad": "{", "c-eth0": `{"containerID":"d","ifname":"eth0"}`, ".e-eth0.123": ""} {
		if err := os.WriteFile(filepath.Join(TombstoneDir(dir), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Tombstones(dir)
	if len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("listed %v", got)
	}
	if err == nil || !strings.Contains(err.Error(), "tombstone bad") || !strings.Contains(err.Error(), "it speaks of d/eth0") {
		t.Errorf("the bad ones: %v", err)
	}
	for range 2 {
		if err := RemoveTombstone(dir, a); err != nil {
			t.Fatal(err)
		}
	}
	if HasTombstone(dir, a) || !HasTombstone(dir, b) {
		t.Error("the wrong one was removed")
	}
}

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file")
	for _, content := range []string{"one", "two, longer", ""} {
		if err := WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v", got, err)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("files are left: %v", entries)
	}
	if err := WriteFile(filepath.Join(path, "below"), nil, 0o600); err == nil {
		t.Error("a file was written below a file")
	}
}
