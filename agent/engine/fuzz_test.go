// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/manifest"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// FuzzManifestsBecomeRows: whatever is accepted of a manifest compiles, and gives
// rows that the kernel can hold: known actions, numbers of known rules, one row a
// key, and no front end that counts on slots which are not there.
func FuzzManifestsBecomeRows(f *testing.F) {
	f.Add([]byte(`{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n, labels: {app: a}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}`))
	f.Add([]byte("{apiVersion: weftmesh.io/v1alpha1, kind: WeftNetworkPolicy, metadata: {name: p, namespace: n}, spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: http, protocol: TCP}], rules: {http: [{path: /a}]}}]}]}}\n" +
		"---\n{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}"))
	for _, pattern := range []string{"../../pkg/manifest/testdata/*/*.yaml", "../../tests/demo/manifests/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := manifest.Decode("f.yaml", data)
		if len(problems) > 0 {
			return
		}
		snap, services := snapshotOf(objects)
		steps, err := plan(memory{}, snap, nothingInForce{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := newCompiler().compile(testNode(), snap, steps[len(steps)-1])
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, out.Desired)
		var compiler lb.Compiler
		checkServices(t, compiler.Update(services))
	})
}

// snapshotOf attaches every pod, and gives it an identity of its own labels.
func snapshotOf(objects []manifest.Object) (s state.Snapshot, services lb.Changes) {
	var m manifest.State
	for _, o := range objects {
		m.Add(o)
	}
	s.Pods, s.Namespaces, s.Policies = m.Pods, m.Namespaces, m.Policies
	services.Services, services.Slices = m.Services, m.EndpointSlices
	labelsOf, known := LabelsOf(testNode(), s), map[string]bool{}
	for i, p := range s.Pods {
		e := testEndpoint(i + 1)
		e.Pod, e.IPv4 = p.PodKey, netip.AddrFrom4([4]byte{10, 244, byte((i + 1) >> 8), byte(i + 1)})
		s.Endpoints = append(s.Endpoints, e)
		if labels := labelsOf(p); !known[labels.Key()] {
			known[labels.Key()] = true
			s.Identities = append(s.Identities, model.Identity{ID: model.MinClusterIdentity + model.IdentityID(i), Labels: labels})
		}
	}
	return s, services
}

func checkRows(t *testing.T, d state.Desired) {
	t.Helper()
	sets := map[model.SetHash]bool{{}: true}
	rulesets := map[model.RulesetID]bool{0: true}
	for i, r := range d.Rulesets {
		rulesets[r.ID] = true
		if r.ID > model.MaxRulesets || len(r.Rules) == 0 || i > 0 && r.ID <= d.Rulesets[i-1].ID {
			t.Errorf("ruleset %+v", r)
		}
	}
	for _, set := range d.Sets {
		sets[set.Hash] = true
		keys := map[model.PolicyEntry]bool{}
		for _, e := range set.Entries {
			k := model.PolicyEntry{Direction: e.Direction, Peer: e.Peer, Protocol: e.Protocol, Port: e.Port, PortBits: e.PortBits}
			if keys[k] || e.Action != model.ActionAllow && e.Action != model.ActionDeny || e.Rule == 0 || e.PortBits > 16 || !rulesets[e.Ruleset] || e.Ruleset != 0 && e.Protocol != model.ProtoTCP {
				t.Errorf("entry %+v, twice %v", e, keys[k])
			}
			keys[k] = true
		}
	}
	for _, row := range d.Endpoints {
		if !sets[row.Set] || row.Identity < model.MinClusterIdentity {
			t.Errorf("endpoint %+v", row)
		}
	}
}

func checkServices(t *testing.T, d model.ServiceChanges) {
	t.Helper()
	slots, backends := map[uint32]int{}, map[uint32]bool{}
	for _, b := range d.Backends {
		backends[b.ID] = true
	}
	for _, table := range d.Slots {
		slots[table.Service] = len(table.Backends)
		for _, id := range table.Backends {
			if !backends[id] {
				t.Errorf("service %d names backend %d, which is not there", table.Service, id)
			}
		}
	}
	for _, f := range d.Frontends {
		if slots[f.Service] < int(f.Slots) {
			t.Errorf("front end %+v counts on %d slots", f, slots[f.Service])
		}
	}
}
