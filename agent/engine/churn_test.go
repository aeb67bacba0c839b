// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// While pods are relabelled again and again, a client whose role allows it in
// every state may reach the server after every single write to the kernel, and one
// whose role never does may not; also while writes fail.
func TestRelabellingPassesNothingNewAndStopsNothingOld(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, fake.New())
		w.drive(watched{w.dp, func() { checkRoles(t, seed, w.dp) }})
		keep := map[string]model.Identity{}
		w.source = roles(rand.New(rand.NewPCG(seed, 1)))
		for i := range 3 {
			w.must(w.tables.UpsertEndpoint(testEndpoint(i + 1)))
		}
		w.apply()
		w.identitiesOnce(keep)
		w.settle()
		if seed%2 == 1 {
			w.dp.FailAtRandom(seed, 0.3)
		}
		random := rand.New(rand.NewPCG(seed, 2))
		for range 30 {
			w.source = roles(random)
			w.apply()
			if random.IntN(2) == 0 {
				w.step() // before the new labels have their identities
			}
			w.identitiesOnce(keep)
			w.step()
		}
		w.settle()
	}
}

// identitiesOnce gives labels identities that stay when no pod has them any more,
// as the allocator's do for a while.
func (w *world) identitiesOnce(known map[string]model.Identity) {
	snap, _ := w.tables.Snapshot()
	labelsOf := LabelsOf(testNode(), snap)
	for _, p := range snap.Pods {
		labels := labelsOf(p)
		if _, ok := known[labels.Key()]; !ok {
			known[labels.Key()] = model.Identity{ID: model.MinClusterIdentity + model.IdentityID(len(known)), Labels: labels}
		}
	}
	w.must(w.tables.ReplaceIdentities(slices.Collect(maps.Values(known))))
}

// roles are three pods (1 friend, 2 server, 3 foe, in slots of a random order of
// writing) whose other labels change, under a policy about roles that is written in
// different ways.
func roles(random *rand.Rand) state.Source {
	var s state.Source
	for i, role := range []string{"friend", "server", "foe"} {
		s.Pods = append(s.Pods, testPod(i+1, map[string]string{"role": role, "version": fmt.Sprint(random.IntN(4))}))
	}
	friend := selecting("role", "friend")
	p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "server"},
		Subject: selecting("role", "server"), Isolate: [2]bool{model.Ingress: true}}
	for i := range 1 + random.IntN(3) {
		p.Rules = append(p.Rules, rule(model.Ingress, model.ActionAllow, fmt.Sprintf("ingress[%d]", i), model.Peer{Selector: &friend}))
	}
	s.Policies = []model.Policy{p}
	return s
}

// checkRoles decides as the kernel would, by what it holds at this moment.
func checkRoles(t *testing.T, seed uint64, dp *fake.Datapath) {
	t.Helper()
	k := dump(t, dp)
	friend, server, foe := k.rows[1], k.rows[2], k.rows[3]
	if friend.Slot == 0 || server.Slot == 0 || foe.Slot == 0 {
		return // at the beginning
	}
	allowed := map[model.IdentityID]bool{}
	for _, e := range k.sets[server.Set].Entries {
		if e.Direction == model.Ingress && e.Action == model.ActionAllow {
			allowed[e.Peer] = true
		}
	}
	if !server.EnforceIngress || !allowed[friend.Identity] {
		t.Fatalf("seed %d: the friend's identity %d is stopped: %v", seed, friend.Identity, allowed)
	}
	if allowed[foe.Identity] {
		t.Fatalf("seed %d: the foe's identity %d is let pass: %v", seed, foe.Identity, allowed)
	}
}

// A pod that has been relabelled and still waits for its identity must learn of
// identities that others get meanwhile.
func TestAPodThatWaitsForItsIdentityKnowsThoseOfOthers(t *testing.T) {
	w := newWorld(t, fake.New())
	known := map[string]model.Identity{}
	w.source = roles(rand.New(rand.NewPCG(1, 1)))
	for i := range 3 {
		w.must(w.tables.UpsertEndpoint(testEndpoint(i + 1)))
	}
	w.apply()
	w.identitiesOnce(known)
	w.settle()
	server := w.source.Pods[1]
	for i := range w.source.Pods {
		w.source.Pods[i] = testPod(i+1, map[string]string{"role": w.source.Pods[i].Labels["role"], "version": "new"})
	}
	relabelled := w.source.Pods[1]
	w.source.Pods[1] = server
	w.apply()
	w.identitiesOnce(known) // of the friend and of the foe
	w.source.Pods[1] = relabelled
	w.apply()
	w.step()
	checkRoles(t, 0, w.dp)
	if k := dump(t, w.dp); k.rows[1].Identity != known[LabelsOf(testNode(), w.snapshot())(w.source.Pods[0]).Key()].ID {
		t.Errorf("the friend's identity has not moved: %+v", k.rows[1])
	}
	if _, done := w.engine.realized.Revisions(); done == w.tables.Revision() {
		t.Error("the revision counts as realized before the server has its identity")
	}
	w.identitiesOnce(known)
	w.settle()
	checkRoles(t, 0, w.dp)
}

func (w *world) snapshot() state.Snapshot {
	snap, _ := w.tables.Snapshot()
	return snap
}
