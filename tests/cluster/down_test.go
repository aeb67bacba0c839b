// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

// traces is what a cluster can be known by. The numbers of namespaces are given out
// again; those of processes with their times, and of maps, are not.
type traces struct {
	processes []machine.Process
	maps      []ebpf.MapID
}

func tracesOf(t *testing.T, c *Cluster) traces {
	t.Helper()
	var tr traces
	dirs, err := filepath.Glob(c.at.machine("*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		processes, err := machine.Processes(dir)
		if err != nil {
			t.Fatal(err)
		}
		tr.processes = append(tr.processes, processes...)
		tr.maps = append(tr.maps, pinnedMaps(t, filepath.Join("/proc", fmt.Sprint(processes[0].PID), "root", "sys/fs/bpf/weft"))...)
	}
	return tr
}

func pinnedMaps(t *testing.T, dir string) (ids []ebpf.MapID) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			return nil // a program or link
		}
		defer func() { _ = m.Close() }()
		info, err := m.Info()
		if err != nil {
			return err
		}
		id, _ := info.ID()
		ids = append(ids, id)
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return ids
}

// left gives what of the cluster is still there.
func (tr traces) left(t *testing.T, c *Cluster) error {
	t.Helper()
	var err error
	for _, p := range tr.processes {
		if p.Alive() {
			err = errors.Join(err, fmt.Errorf("process %d runs", p.PID))
		}
	}
	// This process itself has looked into namespaces.
	descriptors, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range descriptors {
		if to, e := os.Readlink(fd); e == nil && strings.HasPrefix(to, "net:[") {
			err = errors.Join(err, fmt.Errorf("descriptor %s holds %s", fd, to))
		}
	}
	for _, id := range tr.maps {
		if m, e := ebpf.NewMapFromID(id); e == nil {
			_ = m.Close()
			err = errors.Join(err, fmt.Errorf("map %d is in the kernel", id))
		}
	}
	if groups := groupsOf(t, c, "*"); len(groups) > 0 {
		err = errors.Join(err, fmt.Errorf("control groups: %v", groups))
	}
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, table := range tables {
		if content, e := os.ReadFile(table); e == nil && strings.Contains(string(content), c.at.dir()+"/") {
			err = errors.Join(err, fmt.Errorf("%s names %s", table, c.at.dir()))
		}
	}
	entries, e := os.ReadDir(c.at.dir())
	if len(entries) > 0 || e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("%s holds %v, %w", c.at.dir(), entries, e))
	}
	return err
}

func assertNothingLeft(t *testing.T, c *Cluster, tr traces) {
	t.Helper()
	// The kernel frees namespaces and maps a moment after their last process.
	if err := within(t.Context(), 15*time.Second, "nothing left", func() error { return tr.left(t, c) }); err != nil {
		t.Error(err)
	}
}

func up(t *testing.T, name string) *Cluster {
	t.Helper()
	c, err := Up(t.Context(), Options{Name: name, Nodes: 1, Bound: true, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c.GatherOnFailure(t)
	return c
}

// startWeft runs the agent on the node as on a plain host, so that programs are
// attached and pinned.
func startWeft(t *testing.T, n *Node) {
	t.Helper()
	out, err := n.Run(t.Context(), `mkdir -p /etc/weft/manifests && echo 'manifests: /etc/weft/manifests' >/etc/weft/config.yaml
		setsid weft-agent >/var/log/weft-agent.log 2>&1 </dev/null &
		weft status --wait --timeout 30s || cat /var/log/weft-agent.log`)
	if err != nil || !strings.Contains(out, "health      ok") {
		t.Fatalf("the agent on %s: %v: %s", n.Name(), err, out)
	}
}

// assertGathered gathers what explains a failure, and looks into it.
func assertGathered(t *testing.T, c *Cluster) {
	t.Helper()
	dir, err := c.Gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for file, holds := range map[string]string{
		"control-plane/kube-apiserver.log": "Serving securely", "control-plane/etcd.log": "", "outside/network.txt": OutsideIPv4,
		"n1/kubelet.log": "Starting kubelet", "n1/containerd.log": "", "n1/weft-status.txt": "health      ok",
		"n1/maps.txt": "== /sys/fs/bpf/weft/maps/", "n1/network.txt": nodeIPv4(1) + "/24", "n1/processes.txt": "--kubeconfig=/etc/kubernetes/kubelet.conf", "n1/init.log": "kubelet is process",
		"all.txt": "pod/coredns-", "nodes.yaml": "weftmesh.io/agent-not-ready", "events.txt": "Node",
	} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(content), holds) {
			t.Errorf("%s does not hold %q: %v: %.200s", file, holds, err, content)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func TestTwoClustersDoNotMeetAndDownLeavesNothing(t *testing.T) {
	first, second := suite.Cluster(t), up(t, "test-2")
	if _, err := second.Kubectl(t.Context(), "create", "namespace", "only-here"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Kubectl(t.Context(), "get", "namespace", "only-here"); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("the other cluster's namespace: %v", err)
	}
	// Both have a node of this address; only one has somebody who listens.
	listen := second.tools.path("agnhost") + " netexec --http-port=19090 --udp-port=19091"
	if out, err := second.Node(1).Run(t.Context(), "setsid "+listen+" >/dev/null 2>&1 </dev/null & true"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	connect := second.tools.path("agnhost") + " connect --timeout=1s " + nodeIPv4(1) + ":19090"
	if err := within(t.Context(), 10*time.Second, "an answer in its own cluster", func() error {
		_, err := second.Outside(t.Context(), connect)
		return err
	}); err != nil {
		t.Error(err)
	}
	if out, err := first.Outside(t.Context(), connect); err == nil || !strings.Contains(out, "REFUSED") {
		t.Errorf("from the other cluster: %q, %v", out, err)
	}
	startWeft(t, second.Node(1))
	assertGathered(t, second)
	tr := tracesOf(t, second)
	if len(tr.processes) < 10 || len(tr.maps) < 5 || len(groupsOf(t, second, "*")) == 0 {
		t.Fatalf("too few traces to look for: %+v, groups %v", tr, groupsOf(t, second, "*"))
	}
	if tr.left(t, second) == nil {
		t.Fatal("a cluster that is up has left nothing, it is said")
	}
	if err := second.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	assertNothingLeft(t, second, tr)
	if err := first.api.ready(t.Context()); err != nil {
		t.Errorf("the other cluster: %v", err)
	}
	if err := first.waitRegistered(t.Context()); err != nil {
		t.Errorf("the other cluster: %v", err)
	}
}

func TestDownAfterACrash(t *testing.T) {
	c := up(t, "test-3")
	tr := tracesOf(t, c)
	if err := machine.Stop(t.Context(), c.at.machine(controlPlane)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Name: "test-3"}); err == nil || !strings.Contains(err.Error(), "make cluster-down") {
		t.Errorf("opening a cluster whose control plane is gone: %v", err)
	}
	for _, lost := range []string{c.at.record(), filepath.Join(c.at.machine("n1"), "process.json.new")} {
		if err := os.RemoveAll(lost); err != nil {
			t.Fatal(err)
		}
	}
	if err := Down(t.Context(), Options{Name: "test-3"}); err != nil {
		t.Fatal(err)
	}
	assertNothingLeft(t, c, tr)
	if err := Down(t.Context(), Options{Name: "test-3"}); err != nil {
		t.Errorf("taking down what is not there: %v", err)
	}
}

func TestUpThatIsEndedHalfWayLeavesOnlyLogs(t *testing.T) {
	suite.Cluster(t) // so that the programs are built
	for _, when := range []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
		ctx, cancel := context.WithTimeout(t.Context(), when)
		_, err := Up(ctx, Options{Name: "test-4", Nodes: 1, Bound: true})
		cancel()
		if err == nil {
			t.Fatalf("it was up within %s", when)
		}
		at, e := newPlace("test-4")
		if e != nil {
			t.Fatal(e)
		}
		folders, _ := filepath.Glob(filepath.Join(at.dir(), failurePrefix+"*"))
		if len(folders) != 1 || !strings.Contains(err.Error(), folders[0]) {
			t.Errorf("after %s the error is %v, the folders are %v", when, err, folders)
		}
		if err := os.RemoveAll(at.dir()); err != nil {
			t.Fatal(err)
		}
		assertNothingLeft(t, &Cluster{at: at}, traces{})
	}
}

func TestAWrongNameOrNumberIsRefused(t *testing.T) {
	for _, o := range []Options{{Name: "Weft"}, {Name: "../weft"}, {Name: "-x"}, {Nodes: -1}, {Nodes: 101}} {
		if _, err := Up(t.Context(), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
