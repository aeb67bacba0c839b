// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/level"
)

// far is a cluster of one other node, on which a friend and a foe run.
type far struct {
	random *rand.Rand
	next   model.IdentityID
	used   map[string]model.IdentityID // by role
	roles  map[model.IdentityID]string // of all that ever were
}

var farAddrs = map[string]netip.Addr{"friend": netip.MustParseAddr("10.244.7.1"), "foe": netip.MustParseAddr("10.244.7.2")}

func farIdentity(id model.IdentityID, role string) model.Identity {
	label := func(key, value string) model.Label {
		return model.Label{Source: model.SourceK8s, Key: key, Value: value}
	}
	return model.Identity{ID: id, Labels: model.NewLabels(label("role", role), label("version", fmt.Sprint(id)), label(model.LabelNamespace, "demo"))}
}

func (f *far) slice() state.Changes {
	s := model.NodeSlice{Name: "far-a", Node: "far"}
	for role, id := range f.used {
		s.Endpoints = append(s.Endpoints, model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: role}, Identity: id, IPv4: farAddrs[role],
			Workload: model.Workload{Kind: "Deployment", Name: role}})
	}
	return state.Changes{Put: state.Source{NodeSlices: []model.NodeSlice{s}}}
}

// relabel gives a role's pod a new identity: the watches on identities and on
// slices are two, so either comes first; also the old identity may go at any time.
func (f *far) relabel(role string) []state.Changes {
	old := f.used[role]
	f.next++
	f.used[role], f.roles[f.next] = f.next, role
	out := []state.Changes{
		{Identities: []model.Identity{farIdentity(f.next, role)}},
		f.slice(),
		{Gone: state.Gone{Identities: []model.IdentityID{old}}},
	}
	f.random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// While pods of another node are relabelled, the friend is let pass and the foe is
// not, after every single write to the kernel, also while writes fail; with a tunnel,
// whatever of the identities that they ever had their packets come with.
func TestRemotePodsAreNeverTakenForOthers(t *testing.T) {
	for seed := range uint64(level.Scale(500)) {
		random := rand.New(rand.NewPCG(seed, 3))
		f := &far{random: random, next: 300, used: map[string]model.IdentityID{"friend": 299, "foe": 300},
			roles: map[model.IdentityID]string{299: "friend", 300: "foe"}}
		w := newWorld(t, fake.New())
		w.drive(watched{w.dp, func() { checkFar(t, seed, w.dp, f.roles) }})
		w.engine.cfg.Node.Tunnel = seed%4 >= 2
		w.source.Pods = []model.Pod{testPod(1, map[string]string{"role": "server"})}
		w.source.Policies = guard(random)
		w.source.Nodes = []model.ClusterNode{{Name: "here", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, {Name: "far", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}}}
		w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
		w.apply()
		w.identities(farIdentity(299, "friend"), farIdentity(300, "foe"))
		w.must(w.tables.Apply(f.slice()))
		w.settle()
		if seed%2 == 1 {
			w.dp.FailAtRandom(seed, 0.3)
		}
		for range 20 {
			if random.IntN(3) == 0 {
				w.must(w.tables.Apply(state.Changes{Put: state.Source{Policies: guard(random)}}))
			}
			for _, c := range f.relabel([]string{"friend", "foe"}[random.IntN(2)]) {
				w.must(w.tables.Apply(c))
				if random.IntN(2) == 0 {
					w.step()
				}
			}
		}
		w.settle()
		k := dump(t, w.dp)
		for role, addr := range farAddrs {
			if got := k.ips[netip.PrefixFrom(addr, 32)].Identity; got != f.used[role] {
				t.Fatalf("seed %d: the %s ends with identity %d, want %d", seed, role, got, f.used[role])
			}
			if w.engine.cfg.Node.Tunnel != k.known[f.used[role]] {
				t.Fatalf("seed %d: of what comes by the tunnel are believed %v, the %s has %d", seed, k.known, role, f.used[role])
			}
		}
	}
}

// guard denies the foe and lets all others pass, or lets the friend alone pass.
func guard(random *rand.Rand) []model.Policy {
	friend, foe := selecting("role", "friend"), selecting("role", "foe")
	p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "guard"},
		Subject: selecting("role", "server"), Isolate: [2]bool{model.Ingress: true}}
	p.Rules = []model.Rule{rule(model.Ingress, model.ActionAllow, "ingress[0]", model.Peer{Selector: &friend})}
	if random.IntN(2) == 0 {
		p.Rules = []model.Rule{rule(model.Ingress, model.ActionAllow, "ingress[0]", model.Peer{Any: true}),
			rule(model.Ingress, model.ActionDeny, "ingressDeny[0]", model.Peer{Selector: &foe})}
	}
	return []model.Policy{p}
}

// checkFar decides as the kernel would, by what it holds at this moment.
func checkFar(t *testing.T, seed uint64, dp *fake.Datapath, roles map[model.IdentityID]string) {
	t.Helper()
	k := dump(t, dp)
	server := k.rows[1]
	if server.Slot == 0 || !server.EnforceIngress {
		return // at the beginning
	}
	check := func(role string, id model.IdentityID) {
		allowed, denied := false, false
		for _, e := range k.sets[server.Set].Entries {
			if e.Direction == model.Ingress && (e.Peer == model.IdentityNone || e.Peer == id) {
				allowed = allowed || e.Action == model.ActionAllow
				denied = denied || e.Action == model.ActionDeny
			}
		}
		if pass := allowed && !denied; pass != (role == "friend") {
			t.Fatalf("seed %d: the %s, identity %d, passes: %v", seed, role, id, pass)
		}
	}
	for role, addr := range farAddrs {
		if row, ok := k.ips[netip.PrefixFrom(addr, 32)]; ok { // or it is not known yet
			check(role, row.Identity)
		}
	}
	for id := range k.known {
		if role, ok := roles[id]; ok {
			check(role, id)
		}
	}
}

func TestWhatAddressesOfTheClusterAre(t *testing.T) {
	w := newWorld(t, fake.New())
	w.engine.cfg.Node.Name = "here"
	w.engine.cfg.Node.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	pod := func(name string, id model.IdentityID, a string) model.NodeEndpoint {
		return model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: name}, Identity: id, IPv4: addr(a)}
	}
	w.source.Nodes = []model.ClusterNode{
		{Name: "here", Addrs: []netip.Addr{addr("192.0.2.1")}, PodCIDRs: []netip.Prefix{prefix("10.9.0.0/24")}},
		{Name: "a", Addrs: []netip.Addr{addr("192.0.2.2"), addr("192.0.2.9"), addr("192.0.2.1")}, PodCIDRs: []netip.Prefix{prefix("10.9.1.0/24")}},
		{Name: "b", Addrs: []netip.Addr{addr("192.0.2.3")}, PodCIDRs: []netip.Prefix{prefix("10.9.2.0/24")}},
	}
	w.source.NodeSlices = []model.NodeSlice{
		{Name: "a-1", Node: "a", Endpoints: []model.NodeEndpoint{pod("p", 299, "10.9.1.1"), pod("q", 299, "10.9.2.2"), pod("x", 999, "10.9.1.9"), pod("h", 299, "192.0.2.1"),
			pod("api", 299, "198.51.100.5"), pod("node", 299, "192.0.2.3"), pod("world", 299, "203.0.113.1"), pod("later", 299, "10.9.2.7")}},
		{Name: "b-1", Node: "b", Endpoints: []model.NodeEndpoint{pod("r", 300, "10.9.2.2")}},
		{Name: "here-1", Node: "here", Endpoints: []model.NodeEndpoint{pod("s", 299, "10.9.0.5")}},
		{Name: "new-1", Node: "new", Endpoints: []model.NodeEndpoint{pod("t", 299, "10.9.3.1"), pod("u", 299, "10.9.2.8"), pod("v", 299, "203.0.113.2")}},
	}
	api := model.EndpointSlice{EndpointSliceKey: model.EndpointSliceKey{Namespace: "default", Name: "kubernetes"},
		Service: model.ServiceKey{Namespace: "default", Name: "kubernetes"}}
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "198.51.100.5"} {
		api.Backends = append(api.Backends, model.Backend{Addr: addr(a), Ready: true})
	}
	w.source.EndpointSlices = []model.EndpointSlice{api}
	w.must(w.tables.ReplaceHostAddrs([]netip.Addr{addr("192.0.2.1")}))
	w.apply()
	w.identities(farIdentity(299, "friend"), farIdentity(300, "foe"))
	w.settle()
	k := dump(t, w.dp)
	for p, want := range map[string]model.IdentityID{
		"192.0.2.1/32":    model.IdentityHost,          // whatever others say
		"192.0.2.2/32":    model.IdentityKubeAPIServer, // on another node
		"198.51.100.5/32": model.IdentityKubeAPIServer,
		"192.0.2.9/32":    model.IdentityRemoteNode,
		"192.0.2.3/32":    model.IdentityRemoteNode,
		"10.9.1.1/32":     299,
		"10.9.2.2/32":     300, // of the node that has the range
		"10.9.1.9/32":     0,   // its identity is not known
		"10.9.0.5/32":     0,   // this node knows its own pods
		"203.0.113.1/32":  0,   // no node speaks for the world
		"10.9.2.7/32":     0,   // nor for what is another's
		"10.9.3.1/32":     299, // a node without a range, for what is the cluster's
		"10.9.2.8/32":     0,   // and nobody's
		"203.0.113.2/32":  0,
		"10.9.0.0/24":     model.IdentityUnknown,
		"10.9.1.0/24":     model.IdentityUnknown,
		"10.9.2.0/24":     model.IdentityUnknown,
	} {
		if got := k.ips[prefix(p)].Identity; got != want {
			t.Errorf("%s has identity %d, want %d", p, got, want)
		}
	}
}
