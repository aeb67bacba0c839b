// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/tests/rounds"
)

const (
	manyPods = 500
	replicas = 10 // of each workload at the scale of policies
)

// BenchmarkMemory is what the agent takes, with few pods, with many, and at the
// scale that goals are given for, and what the kernel's maps take. A node each.
func BenchmarkMemory(b *testing.B) {
	b.Run("2_pods", func(b *testing.B) {
		n := startNode(b)
		n.weftPair()
		n.reportMemory(b)
		rounds.Report(b, "maps", float64(n.maps())/1e6, "MB")
	})
	b.Run("500_pods", func(b *testing.B) {
		n := startNode(b)
		n.write("pods.yaml", deployments(manyPods, 1))
		n.attach(podNames(manyPods)...)
		n.reportMemory(b)
		rounds.Report(b, "maps", float64(n.maps())/1e6, "MB")
	})
	b.Run("10000_identities", func(b *testing.B) {
		n := startNode(b)
		// Those that run here, ten of a kind, and all others, each of its own kind.
		n.write("pods.yaml", deployments(scaleEndpoints, replicas))
		n.write("others.yaml", others(scaleIdentities-scaleEndpoints/replicas))
		n.write("policies.yaml", policyManifests(scalePolicies))
		n.attach(podNames(scaleEndpoints)...)
		n.reportMemory(b)
		rounds.Report(b, "maps", float64(n.maps())/1e6, "MB")
		shared, each := n.policyMaps()
		rounds.Report(b, "policy_maps", float64(shared)/1e6, "MB")
		rounds.Report(b, "policy_maps_one_each", float64(each)/1e6, "MB")
	})
}

func podNames(count int) (out []string) {
	for i := range count {
		out = append(out, name("pod-", i))
	}
	return out
}

// deployments are pods of which each so many have the same labels but for what
// tells no identities apart.
func deployments(count, each int) string {
	var b strings.Builder
	for i := range count {
		b.WriteString(plainPod(name("pod-", i), i/each%scaleApps, "here"))
	}
	return b.String()
}

func others(count int) string {
	var b strings.Builder
	for i := range count {
		b.WriteString(plainPod(name("other-", i), i%scaleApps, name("v", i/scaleApps)))
	}
	return b.String()
}

func plainPod(pod string, app int, version string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s, labels: {app: app%d, version: %s}}\n"+
		"spec: {containers: [{name: main, image: none}]}\n", pod, namespace, app, version)
}

// policyManifests are as scalePolicy.
func policyManifests(count int) string {
	var b strings.Builder
	for i := range count {
		app := func(n int) string { return fmt.Sprintf("[{matchLabels: {app: app%d}}]", (i+n)%scaleApps) }
		ports := "toPorts: [{ports: [{port: \"80\", protocol: TCP}, {port: \"8080\", endPort: 8090, protocol: TCP}]}]"
		fmt.Fprintf(&b, "---\napiVersion: weftmesh.io/v1alpha1\nkind: WeftNetworkPolicy\nmetadata: {name: p%d, namespace: %s}\n"+
			"spec:\n  endpointSelector: {matchLabels: {app: app%d}}\n"+
			"  egress:\n  - {toEndpoints: %s, %s}\n  - {toEndpoints: %s, %s}\n  ingress:\n  - {fromEndpoints: %s, %s}\n",
			i, namespace, i%scaleApps, app(1), ports, app(3), ports, app(2), ports)
	}
	return b.String()
}

// reportMemory tells what the agent takes once it has come to rest, in MB.
func (n *node) reportMemory(b *testing.B) {
	n.Helper()
	n.status(true)
	rounds.Report(b, "agent_rss", n.restingRSS(n.agent.PID()), "MB")
}

// restingRSS is the least that a process takes over a few seconds, in MB.
func (n *node) restingRSS(pid int) (least float64) {
	n.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 10 { // a collection of garbage may just be due
		<-tick.C
		if now := n.rss(pid); least == 0 || now < least {
			least = now
		}
	}
	return least
}

func (n *node) rss(pid int) float64 {
	n.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	ok(n, err)
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(after, &kib)
	ok(n, err)
	return kib * 1024 / 1e6
}

// maps adds up what the kernel charges for all maps that the agent holds, and for
// the maps inside of maps, in bytes.
func (n *node) maps() (total int) {
	n.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", n.agent.PID()))
	ok(n, err)
	seen := map[int]bool{}
	for _, file := range files {
		if id, bytes := n.fdinfo(file); id != 0 && !seen[id] {
			seen[id] = true
			total += bytes
		}
	}
	for _, outer := range []string{"weft_polsets_v1", "weft_pend_v1"} {
		m := n.pinned(outer)
		for i := range m.MaxEntries() {
			var id ebpf.MapID
			if m.Lookup(i, &id) == nil {
				total += n.bytes(id)
			}
		}
	}
	return total
}

// fdinfo reads a map's number and its bytes, 0 if the file is no map's.
func (n *node) fdinfo(file string) (id, bytes int) {
	n.Helper()
	f, err := os.Open(file)
	if err != nil {
		return 0, 0 // closed meanwhile
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "map_id:"); found {
			_, err := fmt.Sscan(text, &id)
			ok(n, err)
		}
		if text, found := strings.CutPrefix(lines.Text(), "memlock:"); found {
			_, err := fmt.Sscan(text, &bytes)
			ok(n, err)
		}
	}
	return id, bytes
}

func (n *node) pinned(file string) *ebpf.Map {
	n.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinRoot, "maps", file), &ebpf.LoadPinOptions{ReadOnly: true})
	ok(n, err)
	n.Cleanup(func() { _ = m.Close() })
	return m
}

func (n *node) bytes(id ebpf.MapID) int {
	n.Helper()
	m, err := ebpf.NewMapFromID(id)
	ok(n, err)
	defer m.Close()
	_, bytes := n.fdinfo(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()))
	return bytes
}

// policyMaps is what the policy sets take, and what they would if each endpoint
// had one of its own.
func (n *node) policyMaps() (shared, each int) {
	n.Helper()
	sets, size := n.pinned("weft_polsets_v1"), map[uint32]int{}
	var slot uint32
	var row weftbpf.BpfWeftEpRow
	for rows := n.pinned("weft_ep_v1").Iterate(); rows.Next(&slot, &row); {
		var id ebpf.MapID
		if row.Ifindex == 0 || row.Polset == 0 || sets.Lookup(row.Polset, &id) != nil {
			continue
		}
		if size[row.Polset] == 0 {
			size[row.Polset] = n.bytes(id)
			shared += size[row.Polset]
		}
		each += size[row.Polset]
	}
	return shared, each
}
