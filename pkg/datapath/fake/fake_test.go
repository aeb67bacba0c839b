// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
)

func TestContractsHold(t *testing.T) {
	d := New()
	entries := []model.PolicyEntry{{Direction: model.Ingress, Action: model.ActionAllow}}
	set := model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
	row := model.EndpointRow{Slot: 1, IfIndex: 5, Identity: 256, Set: set.Hash}
	hashes := []model.SetHash{set.Hash}
	if err := d.ApplyEndpoint(row); !errors.Is(err, datapath.ErrUnknownSet) {
		t.Errorf("a row with an unknown set: %v", err)
	}
	if err := errors.Join(d.ApplyPolicySet(set), d.ApplyEndpoint(row), d.ApplyEndpoint(row)); err != nil {
		t.Fatal(err)
	}
	if d.Writes() != 2 || d.Epoch(1) != 1 {
		t.Errorf("%d writes, epoch %d", d.Writes(), d.Epoch(1))
	}
	if err := d.DeletePolicySets(hashes); !errors.Is(err, datapath.ErrSetInUse) {
		t.Errorf("removing a set in use: %v", err)
	}
	if err := errors.Join(d.DeleteEndpoint(1), d.DeletePolicySets(hashes), d.DeletePolicySets(hashes)); err != nil {
		t.Error(err)
	}
}

func TestFailuresComeFromTheSeed(t *testing.T) {
	run := func() (failed []int) {
		d := New()
		d.FailAtRandom(7, 0.5)
		for i := range 100 {
			rows := []model.IPRow{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32), Identity: 256}}
			if err := d.ApplyIPs(rows, nil); errors.Is(err, ErrInjected) {
				failed = append(failed, i)
			}
		}
		return failed
	}
	first, second := run(), run()
	if len(first) < 20 || len(first) > 80 || len(first) != len(second) {
		t.Errorf("%d and %d of 100 writes failed", len(first), len(second))
	}
}
