// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// node is a folder with what a node has, and a Keeper that runs on it.
type node struct {
	t      *testing.T
	dir    string
	keeper *Keeper
	ready  chan struct{}
	stop   func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), ready: make(chan struct{})}
	n.write("built", "plugin")
	n.keeper = NewKeeper(KeeperConfig{
		Config: Config{Binary: n.path("built"), BinDir: n.path("bin"), ConfDir: n.path("net.d")},
		Ready: func(ctx context.Context) error {
			select {
			case <-n.ready:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.keeper.Run(ctx) }()
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write(name, content string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) remove(name string) {
	n.t.Helper()
	if err := os.RemoveAll(n.path(name)); err != nil {
		n.t.Fatal(err)
	}
}

// right tells whether a file is there as Install writes it.
func (n *node) right(name, content string, mode os.FileMode) bool {
	st, err := os.Lstat(n.path(name))
	if err != nil || st.Mode() != mode {
		return false
	}
	has, err := os.ReadFile(n.path(name))
	return err == nil && string(has) == content
}

func (n *node) plugin() bool { return n.right("bin/weft-cni", "plugin", 0o755) }

func (n *node) confList() bool {
	want, err := ConfList(Config{})
	return err == nil && n.right("net.d/05-weft.conflist", string(want), 0o644)
}

func (n *node) faults() string {
	_, _, faults := n.keeper.Installed()
	return strings.Join(faults, "\n")
}

// eventually waits until a condition holds.
func (n *node) eventually(what string, condition func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("%s: not so within 20 s; faults: %s", what, n.faults())
		}
	}
}

func TestConfigurationComesWhenAnAddCanBeServed(t *testing.T) {
	n := newNode(t)
	n.eventually("the plugin is there", n.plugin)
	if entries, err := os.ReadDir(n.path("net.d")); err == nil && len(entries) > 0 {
		t.Errorf("%v is there before the agent is ready", entries)
	}
	if _, installed, _ := n.keeper.Installed(); installed {
		t.Error("it says that the configuration is installed")
	}
	close(n.ready)
	n.eventually("the configuration is there", n.confList)
	n.eventually("it says so", func() bool { _, installed, _ := n.keeper.Installed(); return installed })
}

func TestWhatIsChangedOrRemovedIsRestored(t *testing.T) {
	n := newNode(t)
	close(n.ready)
	both := func() bool { return n.plugin() && n.confList() }
	n.eventually("both are there", both)
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"the configuration is removed", func() { n.remove("net.d/05-weft.conflist") }},
		{"the plugin is removed", func() { n.remove("bin/weft-cni") }},
		{"the configuration is changed", func() { n.write("net.d/05-weft.conflist", "{}") }},
		{"the plugin is changed", func() { n.write("bin/weft-cni", "other") }},
		{"the plugin cannot be executed", func() {
			if err := os.Chmod(n.path("bin/weft-cni"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"the folders are removed", func() { n.remove("net.d"); n.remove("bin") }},
	} {
		c.do()
		n.eventually("after "+c.name+", it is restored", both)
	}
}

func TestConfigurationsOfOthersAreReportedAndLeftAlone(t *testing.T) {
	n := newNode(t)
	n.write("net.d/10-later.conflist", "later")
	n.write("net.d/01-notes.txt", "not a configuration")
	close(n.ready)
	n.eventually("the configuration is there", n.confList)
	if f := n.faults(); f != "" {
		t.Errorf("faults without reason: %s", f)
	}
	n.write("net.d/00-first.conf", "first")
	n.eventually("what comes first is reported", func() bool { return strings.Contains(n.faults(), "net.d/00-first.conf comes before 05-weft.conflist") })
	if !n.right("net.d/00-first.conf", "first", 0o600) || !n.right("net.d/10-later.conflist", "later", 0o600) {
		t.Error("a file of others was touched")
	}
	n.remove("net.d/00-first.conf")
	n.eventually("and is not when it is gone", func() bool { return n.faults() == "" })
}

func TestAgentThatEndsLeavesTheFiles(t *testing.T) {
	n := newNode(t)
	close(n.ready)
	n.eventually("both are there", func() bool { return n.plugin() && n.confList() })
	n.stop()
	if !n.plugin() || !n.confList() {
		t.Error("they went with the agent")
	}
}

func TestWithoutThePluginThereIsNoConfiguration(t *testing.T) {
	n := newNode(t)
	n.eventually("the plugin is there", n.plugin)
	n.remove("built")
	n.remove("bin/weft-cni")
	close(n.ready)
	n.eventually("the fault is reported", func() bool { return strings.Contains(n.faults(), "reading the CNI plugin") })
	if n.confList() {
		t.Error("a configuration names a plugin that is not there")
	}
	n.write("built", "plugin")
	n.write("net.d/wake", "")
	n.eventually("it is installed when it can be", func() bool { return n.plugin() && n.confList() })
}
