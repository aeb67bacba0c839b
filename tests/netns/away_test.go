// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/tests/sandbox"
)

// TestWorkloadsThatGoWhileTheAgentIsAway: one deleted as it should be, one whose
// namespace is destroyed without any word, both together with their manifests.
func TestWorkloadsThatGoWhileTheAgentIsAway(t *testing.T) {
	n := startNode(t)
	stays := n.pod("stays")
	serve(t, stays, 8080)
	before, beforeHost := kernelState(t), inventory(t)
	deleted, destroyed := n.pod("deleted", "app=gone"), n.pod("destroyed", "app=gone")
	n.write("policy.yaml", strings.ReplaceAll(crashPolicies, "name: server}", "app: gone}"))
	n.remove("policy.yaml")
	device := hostDevice(t, destroyed)

	n.kill()
	ok(t, n.runtime.DelPod(n.ctx, deleted))
	n.forget(deleted)
	ok(t, destroyed.NS.Close())
	n.forget(destroyed)
	ok(t, sandbox.Eventually(n.ctx, soon, "the end of the namespace", func() error {
		if _, err := netlink.LinkByName(device); err == nil {
			return os.ErrExist
		}
		return nil
	}))
	for _, p := range []*sandbox.Pod{deleted, destroyed} {
		ok(t, os.Remove(filepath.Join(manifestDir, "pod-"+p.Name+".yaml")))
	}
	n.startAgent("weft-agent")
	ok(t, sandbox.Eventually(n.ctx, soon, "the kernel to forget them", func() error {
		return missing(kernelState(t), before)
	}))
	sameState(t, "after its return", kernelState(t), before)
	nothingLeft(t, "after its return", beforeHost)
	onBoth(t, func(t *testing.T, family int) { reaches(t, sandbox.Host(), "tcp", addrs(stays)[family], 8080) })
	// The DEL of the destroyed one, late, is no error; and its address is free.
	_, err := n.runtime.Call(n.ctx, "DEL", destroyed)
	ok(t, err)
	sameState(t, "with what a fresh agent writes", before, n.fresh())
}

// TestAllAddressesAreFreeAgain fills a small range, deletes without the agent,
// and fills it again.
func TestAllAddressesAreFreeAgain(t *testing.T) {
	n := startNode(t, `podCIDRs: ["10.244.7.0/29", "fd00:10:244:7::/64"]`)
	names := []string{"a", "b", "c", "d", "e"}
	for range 2 {
		for _, name := range names {
			n.pod(name)
		}
		n.kill()
		for _, p := range append([]*sandbox.Pod(nil), n.pods...) {
			ok(t, n.runtime.DelPod(n.ctx, p))
			n.forget(p)
			ok(t, os.Remove(filepath.Join(manifestDir, "pod-"+p.Name+".yaml")))
		}
		n.startAgent("weft-agent")
	}
}

// TestAddWithoutAgentFailsClosed: the error names the remedy, nothing is left,
// and the same ADD works when the agent is back.
func TestAddWithoutAgentFailsClosed(t *testing.T) {
	n := startNode(t)
	n.write("pod-late.yaml", podSpec{namespace: "demo", name: "late"}.manifest())
	n.kill()
	before := inventory(t)
	ns, err := sandbox.NewNS("demo-late")
	ok(t, err)
	p := &sandbox.Pod{NS: ns, Namespace: "demo", Name: "late", ContainerID: "c-demo-late", IfName: "eth0"}
	err = n.runtime.Attach(n.ctx, p)
	if err == nil || !strings.Contains(err.Error(), "is weft-agent running?") {
		t.Errorf("without the agent ADD says: %v", err)
	}
	nothingLeft(t, "after an ADD that failed", append(before, "file "+ns.Path))
	ok(t, ns.Do(func() error {
		if _, err := netlink.LinkByName("eth0"); err == nil {
			t.Error("the ADD that failed left eth0 in the pod")
		}
		return nil
	}))
	n.startAgent("weft-agent")
	ok(t, n.runtime.Attach(n.ctx, p))
	n.pods = append(n.pods, p)
	serve(t, p, 8080)
	onBoth(t, func(t *testing.T, family int) { reaches(t, sandbox.Host(), "tcp", addrs(p)[family], 8080) })
}
