// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// mount puts content in place as kubelet does.
func mount(t *testing.T, dir, version, content string) {
	t.Helper()
	folder := filepath.Join(dir, "..v"+version)
	tmp, data := filepath.Join(dir, "..data_tmp"), filepath.Join(dir, mountedData)
	steps := []func() error{
		func() error { return os.Mkdir(folder, 0o755) },
		func() error { return os.WriteFile(filepath.Join(folder, "config.yaml"), []byte(content), 0o600) },
		func() error { return os.Symlink("..v"+version, tmp) },
		func() error { return os.Rename(tmp, data) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// rereads is what is read each time.
func rereads(t *testing.T, path string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, done := make(chan string, 8), make(chan struct{})
	go func() {
		defer close(done)
		reread(ctx, path, 10*time.Millisecond, func() {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			read <- string(content)
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	// It listens once it answers.
	for answered := false; !answered; {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-read:
			answered = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	for quiet := false; !quiet; { // more than one HUP may be on its way
		select {
		case <-read:
		case <-time.After(100 * time.Millisecond):
			quiet = true
		}
	}
	return read
}

func next(t *testing.T, read <-chan string, want string) {
	t.Helper()
	select {
	case got := <-read:
		if got != want {
			t.Errorf("read %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%q is not read", want)
	}
}

func TestAMountedConfigurationIsReadWhenItChanges(t *testing.T) {
	keepHangup(t)
	dir := t.TempDir()
	mount(t, dir, "1", "one")
	path := filepath.Join(dir, "config.yaml")
	if err := os.Symlink("..data/config.yaml", path); err != nil {
		t.Fatal(err)
	}
	read := rereads(t, path)
	mount(t, dir, "2", "two")
	next(t, read, "two")
	mount(t, dir, "3", "three")
	next(t, read, "three")
}

// What an editor has half written is not read.
func TestAPlainConfigurationWaitsForHangup(t *testing.T) {
	keepHangup(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	read := rereads(t, path)
	write("tw")
	write("two")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	next(t, read, "two")
}

// keepHangup keeps a HUP that comes early from ending the test's process.
func keepHangup(t *testing.T) {
	t.Helper()
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(early) })
}
