// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// watched is a kernel that is looked at after every write.
type watched struct {
	*fake.Datapath
	look func()
}

func (w watched) ApplyIPs(upsert []model.IPRow, remove []netip.Prefix) error {
	defer w.look()
	return w.Datapath.ApplyIPs(upsert, remove)
}

func (w watched) ApplyEndpoint(row model.EndpointRow) error {
	defer w.look()
	return w.Datapath.ApplyEndpoint(row)
}

func (w watched) ApplyIdentities(upsert, remove []model.IdentityID) error {
	defer w.look()
	return w.Datapath.ApplyIdentities(upsert, remove)
}

func (w watched) ApplyNodes(upsert []model.NodeRow, remove []uint16) error {
	defer w.look()
	return w.Datapath.ApplyNodes(upsert, remove)
}

func TestADeniedPrefixStaysDeniedWhileWritesFail(t *testing.T) {
	denied, part := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.128/25")
	for seed := range uint64(50) {
		w := newWorld(t, fake.New())
		w.drive(watched{w.dp, func() { checkDenied(t, seed, w.dp, denied) }})
		w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
		w.must(w.tables.UpsertEndpoint(testEndpoint(2)))
		deny := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "deny"},
			Rules: []model.Rule{
				rule(model.Egress, model.ActionAllow, "egress[0]", model.Peer{Selector: &model.Selector{}}),
				rule(model.Egress, model.ActionDeny, "egressDeny[0]", model.Peer{CIDR: denied})}}
		split := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "split"},
			Rules: []model.Rule{rule(model.Egress, model.ActionAllow, "egress[0]", model.Peer{CIDR: part})}}
		w.source = state.Source{Pods: scene().Pods[:2], Policies: []model.Policy{deny}}
		w.apply()
		w.identities()
		w.settle()
		w.dp.FailAtRandom(seed, 0.3)
		for range 4 {
			w.source.Policies = []model.Policy{deny, split}
			w.apply()
			w.step()
			w.source.Policies = []model.Policy{deny}
			w.apply()
			w.step()
		}
		w.settle()
	}
}

// checkDenied fails if an address inside the prefix has an identity that a running
// endpoint's set does not deny.
func checkDenied(t *testing.T, seed uint64, dp *fake.Datapath, denied netip.Prefix) {
	t.Helper()
	k := dump(t, dp)
	for prefix, ip := range k.ips {
		if !denied.Contains(prefix.Addr()) || !ip.Identity.IsLocal() {
			continue
		}
		for slot, row := range k.rows {
			found := false
			for _, e := range k.sets[row.Set].Entries {
				found = found || e.Peer == ip.Identity && e.Action == model.ActionDeny
			}
			if !found {
				t.Fatalf("seed %d: endpoint in slot %d lets %s pass", seed, slot, prefix)
			}
		}
	}
}

// A device that was taken off its programs by an attempt that failed later must
// not pass for attached, or a pod that comes back there has no policy.
func TestAnEndpointThatComesBackAfterAFailedRemovalIsAttachedAgain(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, fake.New())
		w.source.Pods = scene().Pods
		w.apply()
		w.identities()
		w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
		w.settle()
		w.must(w.tables.DeleteEndpoint(1))
		w.dp.FailAtRandom(seed, 0.7)
		w.step()
		w.dp.FailAtRandom(seed, 0)
		w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
		w.settle()
		if on := w.dp.Attached(); len(on) != 1 {
			t.Errorf("seed %d: attached are %v", seed, on)
		}
	}
}
