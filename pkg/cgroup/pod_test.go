// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const (
	podUID   = "0a1b2c3d-0123-4567-89ab-0123456789ab"
	podSlice = "0a1b2c3d_0123_4567_89ab_0123456789ab"
)

func TestPodFolder(t *testing.T) {
	for name, at := range map[string]string{
		"cgroupfs":                      "kubepods/burstable/pod" + podUID,
		"cgroupfs, guaranteed":          "kubepods/pod" + podUID,
		"cgroupfs, in a group":          "kubelet/kubepods/besteffort/pod" + podUID,
		"systemd":                       "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podSlice + ".slice",
		"systemd, guaranteed":           "kubepods.slice/kubepods-pod" + podSlice + ".slice",
		"systemd, in a slice":           "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + podSlice + ".slice",
		"a machine that is a container": "system.slice/docker-1.scope/kubepods/burstable/pod" + podUID,
	} {
		root := t.TempDir()
		others := []string{"kubepods/burstable/pod11111111-0123-4567-89ab-0123456789ab/pod" + podUID,
			"kubepods.slice/kubepods-pod11111111_0123_4567_89ab_0123456789ab.slice/x", "init.scope"}
		for _, dir := range append(others, at+"/container") {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := PodFolder(root, podUID); err != nil || got != filepath.Join(root, at) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, err := PodFolder(root, "22222222-0123-4567-89ab-0123456789ab"); !errors.Is(err, ErrNoPod) {
			t.Errorf("%s: one that is not there: %v", name, err)
		}
	}
	for _, pod := range []string{"", "..", "x", "*", podUID + "/..", podSlice} {
		if got, err := PodFolder(t.TempDir(), pod); err == nil || errors.Is(err, ErrNoPod) {
			t.Errorf("%q: %q, %v", pod, got, err)
		}
	}
	if _, err := PodFolder(filepath.Join(t.TempDir(), "none"), podUID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a root: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	mount := t.TempDir()
	own := filepath.Join(mount, "pod", "container")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want uint64) {
		t.Helper()
		if got, err := memoryLimit(mount, "/pod/container"); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", what, got, err, want)
		}
	}
	check("without limits", 0)
	for _, step := range []struct {
		dir, value string
		want       uint64
	}{{own, "max\n", 0}, {own, "1000\n", 1000}, {filepath.Dir(own), "900\n", 900}, {mount, "max\n", 900}} {
		if err := os.WriteFile(filepath.Join(step.dir, "memory.max"), []byte(step.value), 0o644); err != nil {
			t.Fatal(err)
		}
		check(step.value, step.want)
	}
}
