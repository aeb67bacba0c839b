// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
)

// hostPortsOf are where the kernel leads ports of the node, by address.
func (w *world) hostPortsOf() map[netip.Addr]netip.Addr {
	w.t.Helper()
	rows, err := w.dp.Services()
	if err != nil {
		w.t.Fatal(err)
	}
	backends := make(map[uint32]netip.Addr)
	for _, b := range rows.Backends {
		backends[b.ID] = b.Addr
	}
	out := make(map[netip.Addr]netip.Addr)
	for _, f := range rows.Frontends {
		if f.HostPort {
			out[f.Addr] = backends[rows.Slots[f.Service][0]]
		}
	}
	return out
}

// A pod has its port of the node while it is attached, at every address that the node
// has for itself, whatever becomes of its labels; an attachment anew takes it over.
func TestHostPortsFollowAttachments(t *testing.T) {
	w := newWorld(t, fake.New())
	own, subnet, more := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.255"), netip.MustParseAddr("192.0.2.2")
	pod := testPod(1, map[string]string{"app": "web"})
	pod.HostPorts = []model.HostPort{{Protocol: model.ProtoTCP, Port: 8080, PodPort: 80}}
	host := testPod(2, nil)
	host.HostNetwork, host.HostPorts = true, pod.HostPorts
	w.source.Pods = []model.Pod{pod, host}
	w.must(w.tables.ReplaceHostAddrs([]netip.Addr{own}, subnet))
	w.apply()
	w.identities()
	w.settle()
	if got := w.hostPortsOf(); len(got) != 0 {
		t.Errorf("before the pod is attached: %v", got)
	}
	w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
	w.settle()
	if got := w.hostPortsOf(); len(got) != 1 || got[own] != testEndpoint(1).IPv4 {
		t.Errorf("attached: %v", got)
	}
	w.must(w.tables.ReplaceHostAddrs([]netip.Addr{own, more}, subnet))
	again := testEndpoint(3)
	again.Pod = pod.PodKey
	w.must(w.tables.UpsertEndpoint(again))
	w.settle()
	if got := w.hostPortsOf(); len(got) != 2 || got[own] != again.IPv4 || got[more] != again.IPv4 {
		t.Errorf("attached anew, with another address of the node: %v", got)
	}
	w.must(w.tables.DeleteEndpoint(again.ID))
	w.must(w.tables.DeleteEndpoint(testEndpoint(1).ID))
	w.settle()
	if rows, err := w.dp.Services(); err != nil || len(rows.Frontends)+len(rows.Slots)+len(rows.Backends) != 0 {
		t.Errorf("detached: %+v, %v", rows, err)
	}
}

// identityOf is what the kernel says of an address.
func (w *world) identityOf(a string) model.IdentityID {
	w.t.Helper()
	rows, err := w.dp.IPs()
	if err != nil {
		w.t.Fatal(err)
	}
	addr, best := netip.MustParseAddr(a), model.IPRow{}
	for _, r := range rows {
		if r.Prefix.Contains(addr) && (best.Identity == 0 || r.Prefix.Bits() > best.Prefix.Bits()) {
			best = r
		}
	}
	return best.Identity
}

// A pod that runs without being attached is unmanaged, here and where its node tells
// of it; one of the node's network counts as the node.
func TestUnmanagedAndHostNetworkPods(t *testing.T) {
	w := newWorld(t, fake.New())
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	old, host, attached, thief := testPod(1, nil), testPod(2, nil), testPod(3, nil), testPod(4, nil)
	old.Addrs = addrs("10.244.0.77", "fd00:1::77")
	host.HostNetwork, host.Addrs = true, addrs("192.0.2.1")
	attached.Addrs = addrs("10.244.0.3")
	thief.Addrs = addrs("10.244.0.3", "fd00:1::9") // the first is another pod's
	elsewhere := model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: "elsewhere"}, Identity: model.IdentityUnmanaged,
		IPv4: netip.MustParseAddr("10.244.1.8")}
	w.source.Pods = []model.Pod{old, host, attached, thief}
	w.source.Nodes = []model.ClusterNode{{Name: "node-2", Addrs: addrs("192.0.2.2"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}}
	w.source.NodeSlices = []model.NodeSlice{{Name: "node-2-0", Node: "node-2", Endpoints: []model.NodeEndpoint{elsewhere}}}
	w.must(w.tables.ReplaceHostAddrs(addrs("192.0.2.1")))
	w.must(w.tables.UpsertEndpoint(testEndpoint(3)))
	w.apply()
	w.identities()
	w.settle()
	for a, want := range map[string]model.IdentityID{
		"10.244.0.77": model.IdentityUnmanaged, "fd00:1::77": model.IdentityUnmanaged, "fd00:1::9": model.IdentityUnmanaged,
		"192.0.2.1": model.IdentityHost, "192.0.2.2": model.IdentityRemoteNode, "10.244.1.8": model.IdentityUnmanaged,
		"10.244.0.78": model.IdentityUnknown,
	} {
		if got := w.identityOf(a); got != want {
			t.Errorf("%s is %d, want %d", a, got, want)
		}
	}
	if got := w.identityOf("10.244.0.3"); !got.IsCluster() {
		t.Errorf("an attached pod is %d", got)
	}
	var told []string
	for _, u := range w.engine.View().Unmanaged {
		told = append(told, u.Pod.Name)
	}
	if len(told) != 2 || told[0] != "pod-1" || told[1] != "pod-4" {
		t.Errorf("to tell other nodes: %v", told)
	}
	// Attached now, and detached later: nobody's address.
	w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
	w.apply()
	w.must(w.tables.DeleteEndpoint(1))
	w.settle()
	if got := w.identityOf("10.244.0.77"); got != model.IdentityUnknown {
		t.Errorf("after its attachment: %d", got)
	}
}
