// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// kernelRow reads a row as it is, epoch included.
func kernelRow(t *testing.T, d *Datapath, slot uint16) weftbpf.BpfWeftEpRow {
	t.Helper()
	var row weftbpf.BpfWeftEpRow
	must(t, d.maps.WeftEp.Lookup(uint32(slot), &row))
	return row
}

func TestEndpointRowsReadBackAsWritten(t *testing.T) {
	d := open(t, Config{})
	ifindex := veth(t, "wfrows")
	set := policySet(80)
	must(t, d.ApplyPolicySet(set))
	rows := []model.EndpointRow{endpointRow(1, ifindex, "wfrows"), endpointRow(4095, 70000, "")}
	rows[0].Set = set.Hash
	rows[1].EnforceEgress, rows[1].IPv6 = true, netip.Addr{}
	for _, row := range rows {
		must(t, d.ApplyEndpoint(row))
	}
	got, err := d.Endpoints()
	must(t, err)
	if !reflect.DeepEqual(got, rows) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, rows)
	}
	must(t, d.DeleteEndpoint(1))
	must(t, d.DeleteEndpoint(4095))
	must(t, d.DeleteEndpoint(4095))
	if got, err = d.Endpoints(); err != nil || len(got) != 0 {
		t.Errorf("after their removal there are %v, %v", got, err)
	}
	var slot uint32
	if err := d.maps.WeftIf.Lookup(ifindex, &slot); err != nil || slot != 0 {
		t.Errorf("the device still points to slot %d, %v", slot, err)
	}
}

func TestEndpointRowsThatCannotBeAreRefused(t *testing.T) {
	d := open(t, Config{})
	for name, change := range map[string]func(*model.EndpointRow){
		"slot 0":      func(r *model.EndpointRow) { r.Slot = 0 },
		"slot 4096":   func(r *model.EndpointRow) { r.Slot = 4096 },
		"no device":   func(r *model.EndpointRow) { r.IfIndex = 0 },
		"unknown set": func(r *model.EndpointRow) { r.Set = policySet(1).Hash },
	} {
		row := endpointRow(1, 5, "")
		change(&row)
		if err := d.ApplyEndpoint(row); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestEpochMovesWithWhatDecides(t *testing.T) {
	d := open(t, Config{})
	a, b := policySet(80), policySet(81)
	must(t, d.ApplyPolicySet(a))
	must(t, d.ApplyPolicySet(b))
	row := endpointRow(7, 5, "")
	row.Set = a.Hash
	must(t, d.ApplyEndpoint(row))
	epoch := kernelRow(t, d, 7).Epoch
	if epoch == 0 {
		t.Fatal("a live row has epoch 0")
	}
	for _, step := range []struct {
		name   string
		change func()
		moves  bool
	}{
		{"nothing", func() {}, false},
		{"MTU", func() { row.MTU = 1400 }, false},
		{"device", func() { row.IfIndex = 6 }, false},
		{"identity", func() { row.Identity = 257 }, true},
		{"set", func() { row.Set = b.Hash }, true},
		{"enforcement", func() { row.EnforceEgress = true }, true},
		{"no set", func() { row.Set = model.SetHash{} }, true},
		{"another pod", func() { row.ID = 2000 }, true},
	} {
		step.change()
		must(t, d.ApplyEndpoint(row))
		now := kernelRow(t, d, 7).Epoch
		if moved := now > epoch; moved != step.moves || now < epoch {
			t.Errorf("%s: epoch went from %d to %d", step.name, epoch, now)
		}
		epoch = now
	}
}

func TestEpochIsNotGivenOutAgainAfterARestart(t *testing.T) {
	d := open(t, Config{})
	must(t, d.ApplyEndpoint(endpointRow(1, 5, "")))
	must(t, d.ApplyEndpoint(endpointRow(2, 6, "")))
	newest := kernelRow(t, d, 2).Epoch
	must(t, d.DeleteEndpoint(2))
	must(t, d.Close())

	d = reopen(t, Config{})
	must(t, d.ApplyEndpoint(endpointRow(2, 7, "")))
	if epoch := kernelRow(t, d, 2).Epoch; epoch <= newest {
		t.Errorf("epoch %d after a restart, but %d was in use before", epoch, newest)
	}
}

func TestPolicySetsAreStoredOnceAndKnownAfterARestart(t *testing.T) {
	d := open(t, Config{})
	sets := []model.PolicySet{policySet(80), policySet(443), {Entries: []model.PolicyEntry{
		{Direction: model.Egress, Action: model.ActionAllow, Rule: 4},
		{Direction: model.Ingress, Peer: 1 << 24, Protocol: model.ProtoUDP, Action: model.ActionDeny, Precedence: 9, Rule: 5},
		{Direction: model.Ingress, Peer: 1 << 24, Protocol: model.ProtoUDP, Port: 0x8000, PortBits: 1, Action: model.ActionAudit, Ruleset: 3},
	}}}
	sets[2].Hash = model.HashEntries(sets[2].Entries)
	for _, set := range sets {
		must(t, d.ApplyPolicySet(set))
		must(t, d.ApplyPolicySet(set))
	}
	must(t, d.Close())
	d = reopen(t, Config{})
	got, err := d.PolicySets()
	must(t, err)
	if len(got) != len(sets) {
		t.Errorf("%d sets in the kernel, want %d", len(got), len(sets))
	}
	for _, set := range sets {
		if !reflect.DeepEqual(got[set.Hash], set) {
			t.Errorf("read back\n%+v\nwant\n%+v", got[set.Hash], set)
		}
	}
	row := endpointRow(1, 5, "")
	row.Set = sets[2].Hash
	must(t, d.ApplyEndpoint(row))
	if err := d.DeletePolicySets([]model.SetHash{sets[0].Hash, sets[2].Hash}); !errors.Is(err, ErrSetInUse) {
		t.Errorf("removing a set in use: %v", err)
	}
	must(t, d.DeleteEndpoint(1))
	for _, gone := range [][]model.SetHash{{sets[0].Hash}, {sets[0].Hash, sets[1].Hash, sets[2].Hash}, {sets[2].Hash}} {
		must(t, d.DeletePolicySets(gone))
	}
	if got, err := d.PolicySets(); err != nil || len(got) != 0 {
		t.Errorf("after their removal there are %v, %v", got, err)
	}
}

func TestADamagedPolicySetIsReplaced(t *testing.T) {
	d := open(t, Config{})
	set := policySet(80)
	must(t, d.ApplyPolicySet(set))
	row := endpointRow(1, 5, "")
	row.Set = set.Hash
	must(t, d.ApplyEndpoint(row))
	other, err := newSetMap(d.setSpec, policySet(81).Entries)
	must(t, err)
	defer other.Close()
	must(t, d.maps.WeftPolsets.Put(kernelRow(t, d, 1).Polset, other))

	sets, err := d.PolicySets()
	must(t, err)
	if _, ok := sets[set.Hash]; ok {
		t.Fatal("the damage is not seen")
	}
	must(t, d.ApplyPolicySet(set))
	must(t, d.ApplyEndpoint(row))
	rows, err := d.Endpoints()
	must(t, err)
	if len(rows) != 1 || rows[0].Set != set.Hash {
		t.Errorf("rows %+v do not have set %x", rows, set.Hash)
	}
}

func TestIPRows(t *testing.T) {
	d := open(t, Config{})
	rows := []model.IPRow{
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Identity: 3},
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Identity: 9},
		{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Identity: 256, Slot: 1},
		{Prefix: netip.MustParsePrefix("fd00::/64"), Identity: 9},
		{Prefix: netip.MustParsePrefix("fd00::1/128"), Identity: 256, Slot: 1},
	}
	must(t, d.ApplyIPs(rows, nil))
	must(t, d.ApplyIPs(rows, nil))
	got, err := d.IPs()
	must(t, err)
	if !reflect.DeepEqual(got, rows) {
		t.Errorf("read back\n%v\nwant\n%v", got, rows)
	}
	gone := []netip.Prefix{rows[1].Prefix, rows[4].Prefix, netip.MustParsePrefix("192.0.2.0/24")}
	must(t, d.ApplyIPs(nil, gone))
	want := slices.Delete(slices.Delete(rows, 4, 5), 1, 2)
	if got, err = d.IPs(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("after the removal %v, %v, want %v", got, err, want)
	}
}

func TestInspectSeesWhatWasWritten(t *testing.T) {
	d := open(t, Config{})
	set := policySet(80)
	row := endpointRow(1, veth(t, "wfinspect"), "wfinspect")
	row.Set = set.Hash
	ip := model.IPRow{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Identity: 256, Slot: 1}
	must(t, errors.Join(d.ApplyPolicySet(set), d.ApplyEndpoint(row), d.ApplyIPs([]model.IPRow{ip}, nil)))
	got, err := Inspect(testRoot)
	must(t, err)
	want := Contents{
		Endpoints: []model.EndpointRow{row}, IPs: []model.IPRow{ip},
		Sets:     map[model.SetHash]model.PolicySet{set.Hash: set},
		Services: model.ServiceRows{Slots: map[uint32][]uint32{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("inspected\n%+v\nwant\n%+v", got, want)
	}
}

func TestAPolicySetMayBeLargerThanTheTemplate(t *testing.T) {
	d := open(t, Config{})
	entries := make([]model.PolicyEntry, d.setSpec.MaxEntries+1000)
	for i := range entries {
		entries[i] = model.PolicyEntry{Peer: model.MinClusterIdentity + model.IdentityID(i), Action: model.ActionAllow}
	}
	set := model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
	must(t, d.ApplyPolicySet(set))
	sets, err := d.PolicySets()
	must(t, err)
	if got := len(sets[set.Hash].Entries); got != len(entries) {
		t.Errorf("%d entries in the kernel, want %d", got, len(entries))
	}
}
