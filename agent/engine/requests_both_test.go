// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/policygen"
)

// sided is traffic whose clients have policies, too: the kernel asks for a ruleset of
// egress, for one of ingress, or for both, and then there may be a pair of them.
type sided struct {
	*l7
	t        *testing.T
	seed     uint64
	old, new [2]map[who]string // by direction, the paths that each may ask for
	open     connections
	stayed   int // of a pair
	reset    int
	begun    int // with a pair
}

func (f *sided) Update(r model.Rulesets) {
	f.told = append(f.told, r)
	f.look()
}

// asked are the rulesets that the kernel asks of a connection, by direction; false where
// it refuses it.
func (f *sided) asked(c who) (of [2]model.RulesetID, passes, there bool) {
	k := dump(f.t, f.dp)
	server, client := k.rows[1], k.rows[c.pod]
	if server.Slot == 0 || client.Slot == 0 {
		return of, false, false
	}
	passes = true
	for d, side := range map[model.Direction]struct {
		row      model.EndpointRow
		peer     model.IdentityID
		isolated bool
	}{
		model.Egress:  {client, server.Identity, client.EnforceEgress},
		model.Ingress: {server, client.Identity, server.EnforceIngress},
	} {
		e := policygen.Lookup(k.sets[side.row.Set].Entries, d, side.peer, model.ProtoTCP, c.port)
		passes = passes && (e.Action == model.ActionAllow || e.Action == model.ActionNone && !side.isolated)
		of[d] = e.Ruleset
	}
	return of, passes, true
}

// both is what is in two texts.
func both(a, b string) (out string) {
	for _, c := range a {
		if strings.ContainsRune(b, c) && !strings.ContainsRune(out, c) {
			out += string(c)
		}
	}
	return out
}

// covers, satisfies, next and begin are what the kernel programs do.
func (f *sided) covers(one, other model.RulesetID) bool {
	return one == other || f.follow[one] == other || f.before[one] == other
}

func (f *sided) satisfies(one, other model.RulesetID) bool {
	if one == 0 || other == 0 {
		return false
	}
	if p, ok := f.pairs[one]; ok {
		return f.covers(p.First, other) || f.covers(p.Then, other)
	}
	return f.covers(one, other)
}

func (f *sided) next(passed model.RulesetID, of [2]model.RulesetID) model.RulesetID {
	_, pair := f.pairs[passed]
	switch {
	case f.satisfies(passed, of[1]) && (!pair || of[0] == 0 || f.satisfies(passed, of[0])):
		return 0
	case f.satisfies(passed, of[0]):
		return of[1]
	case of[0] != 0:
		return of[0]
	}
	return of[1]
}

func (f *sided) begin(of [2]model.RulesetID) model.RulesetID {
	for id, p := range f.pairs {
		if p.Begin && of == [2]model.RulesetID{p.First, p.Then} && f.listens(id) {
			return id
		}
	}
	return f.next(0, of)
}

func (f *sided) listens(id model.RulesetID) bool {
	return len(f.told) > 0 && slices.ContainsFunc(f.told[len(f.told)-1].List, func(r model.Ruleset) bool { return r.ID == id })
}

// may is what a connection that has a ruleset may ask for, with all legs to the server.
func (f *sided) may(id model.RulesetID, of [2]model.RulesetID) string {
	out := all
	for range 4 {
		if id == 0 {
			return out
		}
		out = both(out, f.says(id))
		id = f.next(id, of)
	}
	return "" // it goes round
}

// look judges every request that could be made at this moment: each side must allow it by
// its policies before or after; what both sides allow by both must pass on new connections.
func (f *sided) look() {
	for _, c := range clients() {
		of, passes, there := f.asked(c)
		if !there {
			return
		}
		may := ""
		if passes {
			may = f.may(f.begin(of), of)
		}
		for _, path := range all {
			p := string(path)
			must, could := true, true
			for d := range f.old {
				before, after := strings.Contains(f.old[d][c], p), strings.Contains(f.new[d][c], p)
				must, could = must && before && after, could && (before || after)
			}
			if got := strings.Contains(may, p); must && !got || got && !could {
				f.t.Fatalf("seed %d: %s of %+v passes is %v, policies before %v, after %v (rulesets %v, pairs %v)", f.seed, p, c, got, f.old, f.new, of, f.pairs)
			}
		}
		f.open[c] = slices.DeleteFunc(f.open[c], func(id model.RulesetID) bool { return !f.stays(c, id, of, passes) })
	}
}

// stays tells whether the kernel lets an open connection go on, and judges it.
func (f *sided) stays(c who, id model.RulesetID, of [2]model.RulesetID, passes bool) bool {
	first := f.next(0, of)
	_, pair := f.pairs[id]
	switch {
	case !passes, pair && f.next(id, of) != 0, !pair && id != first && (id == 0 || first != 0 && !f.satisfies(id, first)):
		f.reset++
		return false
	case pair:
		f.stayed++
	}
	for _, path := range f.may(id, of) {
		p := string(path)
		for d := range f.old {
			if !strings.Contains(f.old[d][c]+f.new[d][c], p) {
				f.t.Fatalf("seed %d: %s of %+v passes on a connection of ruleset %d, against %s: before %q, after %q (rulesets %v, pairs %v, followers %v and %v, proxy %+v)",
					f.seed, p, c, id, model.Direction(d), f.old[d][c], f.new[d][c], of, f.pairs, f.follow, f.before, f.told[len(f.told)-1])
			}
		}
	}
	return true
}

func (f *sided) connect() {
	for _, c := range clients() {
		if of, passes, there := f.asked(c); there && passes {
			id := f.begin(of)
			f.open[c] = append(f.open[c], id)
			if _, pair := f.pairs[id]; pair {
				f.begun++
			}
		}
	}
}

// RulesetsInUse implements ProxiedFlows.
func (f *sided) RulesetsInUse() (map[model.RulesetID]bool, error) { return f.open.used(), nil }

// outward are policies of the clients.
func outward(random *rand.Rand, said []string) []model.Policy {
	var out []model.Policy
	for i := range 4 {
		if random.IntN(3) == 0 {
			continue
		}
		server := selecting("role", "server")
		peer := []model.Peer{{Any: true}, {Selector: &server}}[random.IntN(2)]
		r := rule(model.Egress, model.ActionAllow, "egress[0].toPorts[0]", peer)
		first := uint16(80 + random.IntN(2))
		r.Ports = []model.PortRange{{Protocol: model.ProtoTCP, First: first, Last: first + uint16(random.IntN(2))}}
		if random.IntN(6) > 0 {
			r.L7 = &model.L7{HTTP: []model.HTTPRule{{Path: said[i]}}}
		}
		out = append(out, model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: fmt.Sprint("q", i)},
			Subject: selecting("role", []string{"friend", "foe"}[random.IntN(2)]), Isolate: [2]bool{model.Egress: true}, Rules: []model.Rule{r}})
	}
	return out
}

// As TestChangesOfRequestsPassNothingNewAndStopNothingOld, where both sides have policies:
// one pass by a pair, and two, let the same pass.
func TestChangesOfBothSidesPassNothingNewAndStopNothingOld(t *testing.T) {
	begun, stayed, reset := 0, 0, 0
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(t, fake.New())
		f := &sided{l7: &l7{t: t, dp: w.dp, ready: 1 << 30}, t: t, seed: seed, open: connections{}}
		w.drive(watched{w.dp, f.look})
		w.engine.cfg.Proxy, w.engine.cfg.Proxied, w.engine.cfg.Rulesets = f, f, f
		w.serverAndClients()
		said := []string{"a", "a|b", "b|c", "c|d"}
		now := func(policies []model.Policy) [2]map[who]string {
			return [2]map[who]string{w.allowedBy(model.Egress, policies), w.allowedBy(model.Ingress, policies)}
		}
		f.old, f.new = now(nil), now(nil)
		w.settle()
		if f.failing = seed%4 == 3; f.failing {
			w.dp.FailAtRandom(seed, 0.2)
		}
		in, out := traffics(random, said), outward(random, said)
		for range 20 {
			f.connect()
			switch random.IntN(4) {
			case 0: // rules say something else, and all else stays
				said[random.IntN(4)] = []string{"a", "b|d", "c"}[random.IntN(3)]
				in, out = saying(in, said), saying(out, said)
			case 1:
				in = traffics(random, said)
			case 2:
				out = outward(random, said)
			default:
				in, out = traffics(random, said), outward(random, said)
			}
			w.source.Policies = slices.Concat(in, out)
			f.old, f.new = f.new, now(w.source.Policies)
			w.apply()
			w.settle()
			f.look()
			f.old = f.new
			f.look()
			if random.IntN(2) == 0 {
				w.engine.tendRulesets(t.Context())
				w.settle()
			}
		}
		begun, stayed, reset = begun+f.begun, stayed+f.stayed, reset+f.reset
	}
	t.Logf("%d connections began with a pair, %d times one stayed, %d times any was reset", begun, stayed, reset)
	if begun < 100 || stayed < 1000 || reset < 100 {
		t.Error("too few of one kind to say anything")
	}
}
