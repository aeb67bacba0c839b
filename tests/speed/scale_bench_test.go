// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/rounds"
)

const (
	scaleIdentities = 10_000
	scalePolicies   = 1_000
	scaleEndpoints  = 250
	scaleApps       = 500
	scaleChanges    = 100
)

// scalePolicy lets three other apps ask the pods of one, or be asked by them.
func scalePolicy(i int) model.Policy {
	app := func(n int) model.Selector {
		return model.Selector{Requirements: []model.Requirement{
			{Source: "any", Key: "app", Operator: model.OpIn, Values: []string{name("app", n%scaleApps)}},
			{Source: model.SourceK8s, Key: model.LabelNamespace, Operator: model.OpIn, Values: []string{namespace}},
		}}
	}
	p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: namespace, Name: name("p", i)}}
	p.Subject, p.Isolate = app(i), [2]bool{true, true}
	for j := range 3 {
		from := app(i + j + 1)
		p.Rules = append(p.Rules, model.Rule{
			Direction: model.Direction(j % 2), Action: model.ActionAllow, Name: name("rule", j),
			Peers: []model.Peer{{Selector: &from}},
			Ports: []model.PortRange{{Protocol: model.ProtoTCP, First: 80, Last: 80}, {Protocol: model.ProtoTCP, First: 8080, Last: 8090}},
		})
	}
	return p
}

// scalePod is one pod; each has labels, and so an identity, of its own.
func scalePod(i int) model.Pod {
	return model.Pod{PodKey: model.PodKey{Namespace: namespace, Name: name("pod-", i)}, ServiceAccount: "default",
		Labels: map[string]string{"app": name("app", i%scaleApps), "version": name(i / scaleApps)}}
}

func scaleSource() (s state.Source) {
	for i := range scalePolicies {
		s.Policies = append(s.Policies, scalePolicy(i))
	}
	for i := range scaleEndpoints {
		s.Pods = append(s.Pods, scalePod(i))
	}
	return s
}

func scaleIdentity(i int) model.Identity {
	labels := engine.LabelsOf(engine.Node{Cluster: "default", Filter: identity.DefaultFilter()}, state.Snapshot{})(scalePod(i))
	return model.Identity{ID: model.MinClusterIdentity + model.IdentityID(i), Labels: labels}
}

func scaleEndpoint(tb testing.TB, i int) model.Endpoint {
	tb.Helper()
	label := name("sc", i)
	return model.Endpoint{ID: uint32(i + 1), Slot: uint16(i + 1), Pod: scalePod(i).PodKey, ContainerID: label, IfName: "eth0",
		HostIfName: label, HostIfIndex: device(tb, label), MAC: model.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)},
		HostMAC: model.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, MTU: 1500, State: model.EndpointReady,
		IPv4: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}),
		IPv6: netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x10, 2, 0x44, 14: byte(i >> 8), 15: byte(i)})}
}

// BenchmarkPolicyScale is 10,000 identities, 1,000 policies and 250 endpoints here:
// how long a new policy or identity takes until the kernel has it.
func BenchmarkPolicyScale(b *testing.B) {
	source, identities := scaleSource(), []model.Identity{}
	for i := range scaleIdentities {
		identities = append(identities, scaleIdentity(i))
	}
	m := startMachine(b, func(t *state.Tables) {
		for i := range scaleEndpoints {
			_, err := t.UpsertEndpoint(scaleEndpoint(b, i))
			ok(b, err)
		}
		_, err := t.ReplaceIdentities(identities)
		ok(b, err)
		_, err = t.ReplaceSource(source)
		ok(b, err)
	})
	m.wait(m.tables.Revision())
	if rows := m.engine.View().Policies; len(rows) != scalePolicies {
		b.Fatalf("%d policies are in force", len(rows))
	}
	var policy, ident []float64
	for i := range scaleChanges {
		more := source
		more.Policies = append(slices.Clone(source.Policies), scalePolicy(scalePolicies+i))
		policy = append(policy, m.changed(func() (model.Revision, error) { return m.tables.ReplaceSource(more) }))
		m.changed(func() (model.Revision, error) { return m.tables.ReplaceSource(source) })
		// One that the rules of an endpoint here name.
		all := append(slices.Clone(identities), scaleIdentity(scaleIdentities+i))
		ident = append(ident, m.changed(func() (model.Revision, error) { return m.tables.ReplaceIdentities(all) }))
		m.changed(func() (model.Revision, error) { return m.tables.ReplaceIdentities(identities) })
	}
	for label, took := range map[string][]float64{"new_policy": policy, "new_identity": ident} {
		rounds.Report(b, label+"_p50", rounds.Quantile(took, 0.5), "ms")
		rounds.Report(b, label+"_p99", rounds.Quantile(took, 0.99), "ms")
	}
}

// BenchmarkAddPod is what a pod takes in the datapath: its policy set, its row, its
// addresses and its programs, which are loaded already.
func BenchmarkAddPod(b *testing.B) {
	dp := openDatapath(b)
	seen := map[ebpf.ProgramID]bool{} // on all devices
	var took []float64
	for i := range scaleChanges {
		ep := scaleEndpoint(b, i)
		set := model.PolicySet{Entries: podEntries(i)}
		set.Hash = model.HashEntries(set.Entries)
		row := model.EndpointRow{Slot: ep.Slot, ID: ep.ID, IfIndex: ep.HostIfIndex, IfName: ep.HostIfName, Identity: model.IdentityID(1000 + i),
			Set: set.Hash, MTU: 1500, MAC: ep.MAC, HostMAC: ep.HostMAC, EnforceIngress: true, IPv4: ep.IPv4, IPv6: ep.IPv6}
		var ips []model.IPRow
		for _, a := range []netip.Addr{ep.IPv4, ep.IPv6} {
			ips = append(ips, model.IPRow{Prefix: netip.PrefixFrom(a, a.BitLen()), Identity: row.Identity, Slot: ep.Slot})
		}
		start := time.Now()
		ok(b, errors.Join(dp.ApplyPolicySet(set), dp.ApplyEndpoint(row), dp.Attach(context.Background(), row.IfIndex, row.IfName),
			dp.ApplyIPs(ips, nil)))
		took = append(took, float64(time.Since(start).Microseconds())/1e3)
		attached(b, row.IfIndex, seen)
		finished(b, dp)
		attached(b, row.IfIndex, seen)
	}
	rounds.Report(b, "p50", rounds.Quantile(took, 0.5), "ms")
	rounds.Report(b, "p99", rounds.Quantile(took, 0.99), "ms")
	// One for each direction serves them all.
	rounds.Report(b, "programs_loaded", float64(len(seen)-2), "programs")
}

func podEntries(i int) (out []model.PolicyEntry) {
	for j := range 20 {
		out = append(out, model.PolicyEntry{Direction: model.Ingress, Peer: model.IdentityID(1000 + 20*i + j), Protocol: model.ProtoTCP,
			Port: 80, PortBits: 16, Action: model.ActionAllow})
	}
	return out
}

// attached notes the programs on a device, which has one in each direction.
func attached(tb testing.TB, ifindex uint32, seen map[ebpf.ProgramID]bool) {
	tb.Helper()
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	for hook, parent := range map[ebpf.AttachType]uint32{
		ebpf.AttachTCXIngress: netlink.HANDLE_MIN_INGRESS, ebpf.AttachTCXEgress: netlink.HANDLE_MIN_EGRESS,
	} {
		linked, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: hook})
		ok(tb, err)
		for _, p := range linked.Programs {
			seen[p.ID] = true
		}
		filters, _ := netlink.FilterList(dev, parent) // fails where there was never one
		for _, f := range filters {
			seen[ebpf.ProgramID(f.(*netlink.BpfFilter).Id)] = true
		}
		if n := len(linked.Programs) + len(filters); n != 1 {
			tb.Fatalf("%d programs are attached", n)
		}
	}
}

// finished has devices come to where they are to stay, which no pod waits for.
func finished(tb testing.TB, dp *datapath.Datapath) {
	tb.Helper()
	left, err := dp.FinishAttach()
	ok(tb, err)
	if left > 0 {
		tb.Fatalf("%d devices are left", left)
	}
}
