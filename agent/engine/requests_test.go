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
	"github.com/weftmesh/weft/pkg/policy/reference"
	"github.com/weftmesh/weft/tests/policygen"
)

// traffic is clients of a server on two ports, who ask for paths, while policies
// change: a kernel that decides, and a proxy that has what it was told.
type traffic struct {
	*l7
	t        *testing.T
	seed     uint64
	old, new map[who]string // the paths that each may ask for; all: every one
	open     connections
	stayed   int
	reset    int
}

type who struct {
	pod  uint16 // the client's slot
	port uint16
}

// connections are the rulesets of those that are open.
type connections map[who][]model.RulesetID

func (c connections) used() map[model.RulesetID]bool {
	used := map[model.RulesetID]bool{}
	for _, list := range c {
		for _, id := range list {
			used[id] = true
		}
	}
	return used
}

const all = "abcd"

// clients are all there are.
func clients() (out []who) {
	for _, pod := range []uint16{2, 3} {
		for _, port := range []uint16{80, 81} {
			out = append(out, who{pod, port})
		}
	}
	return out
}

// Update implements Proxy: requests are looked at after the proxy has changed, too.
func (f *traffic) Update(r model.Rulesets) {
	f.told = append(f.told, r)
	f.look()
}

// entry is what the kernel says of a connection.
func (f *traffic) entry(c who) (e model.PolicyEntry, there bool) {
	k := dump(f.t, f.dp)
	server, client := k.rows[1], k.rows[c.pod]
	if server.Slot == 0 || client.Slot == 0 {
		return e, false
	}
	e = policygen.Lookup(k.sets[server.Set].Entries, model.Ingress, client.Identity, model.ProtoTCP, c.port)
	if e.Action == model.ActionNone && !server.EnforceIngress {
		e.Action = model.ActionAllow
	}
	return e, true
}

// says is what the proxy lets connections of a ruleset ask for.
func (p *l7) says(id model.RulesetID) string {
	if len(p.told) == 0 {
		return ""
	}
	for _, r := range p.told[len(p.told)-1].List {
		if r.ID == id && r.Then != nil {
			return both(letters(r), letters(*r.Then))
		}
		if r.ID == id {
			return letters(r)
		}
	}
	return "" // it does not listen for it
}

func letters(r model.Ruleset) string {
	if r.Open {
		return all
	}
	var out string
	for _, o := range r.Rules {
		out += paths(&o.L7)
	}
	return out
}

func paths(l *model.L7) string { return strings.ReplaceAll(l.HTTP[0].Path, "|", "") }

// look judges every request that could be made at this moment, by connections that are
// open and by new ones. What neither the old nor the new policies allow must not pass,
// and what both allow must pass on new ones.
func (f *traffic) look() {
	for _, c := range clients() {
		e, there := f.entry(c)
		if !there {
			return
		}
		may := ""
		if e.Action == model.ActionAllow {
			if may = all; e.Ruleset != 0 {
				may = f.says(e.Ruleset)
			}
		}
		for _, path := range all {
			p := string(path)
			before, after := strings.Contains(f.old[c], p), strings.Contains(f.new[c], p)
			if passes := strings.Contains(may, p); passes != before && before == after {
				f.t.Fatalf("seed %d: %s of %+v passes is %v, policies before and after say %v (entry %+v, proxy %+v)", f.seed, p, c, passes, before, e, f.told)
			}
		}
		f.open[c] = slices.DeleteFunc(f.open[c], func(id model.RulesetID) bool { return !f.stays(c, id, e) })
	}
}

// stays tells whether the kernel lets an open connection go on, and judges it.
func (f *traffic) stays(c who, id model.RulesetID, e model.PolicyEntry) bool {
	same := id == e.Ruleset || id != 0 && (e.Ruleset == 0 || f.follow[id] == e.Ruleset || f.before[id] == e.Ruleset)
	if e.Action != model.ActionAllow || !same {
		f.reset++
		return false
	}
	f.stayed++
	may := all
	if id != 0 {
		may = f.says(id)
	}
	for _, path := range may {
		if p := string(path); !strings.Contains(f.old[c]+f.new[c], p) {
			f.t.Fatalf("seed %d: %s of %+v passes on a connection of ruleset %d, policies before say %q, after %q (proxy %+v)", f.seed, p, c, id, f.old[c], f.new[c], f.told)
		}
	}
	return true
}

// connect makes a new connection of every client that may.
func (f *traffic) connect() {
	for _, c := range clients() {
		if e, there := f.entry(c); there && e.Action == model.ActionAllow {
			f.open[c] = append(f.open[c], e.Ruleset)
		}
	}
}

// RulesetsInUse implements ProxiedFlows.
func (f *traffic) RulesetsInUse() (map[model.RulesetID]bool, error) { return f.open.used(), nil }

// traffics are policies of the server's, of which some ask for paths.
func traffics(random *rand.Rand, said []string) []model.Policy {
	var out []model.Policy
	for i := range 4 {
		if random.IntN(3) == 0 {
			continue
		}
		peer := model.Peer{Any: true}
		if role := random.IntN(3); role > 0 {
			s := selecting("role", []string{"friend", "foe"}[role-1])
			peer = model.Peer{Selector: &s}
		}
		r := rule(model.Ingress, model.ActionAllow, "ingress[0].toPorts[0]", peer)
		first := uint16(80 + random.IntN(2))
		r.Ports = []model.PortRange{{Protocol: model.ProtoTCP, First: first, Last: first + uint16(random.IntN(2))}}
		switch random.IntN(8) {
		case 0:
			r.Action = model.ActionDeny
		case 1: // asks for nothing
		default:
			r.L7 = &model.L7{HTTP: []model.HTTPRule{{Path: said[i]}}}
		}
		out = append(out, model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: fmt.Sprint("p", i)},
			Subject: selecting("role", "server"), Isolate: [2]bool{model.Ingress: random.IntN(6) > 0}, Rules: []model.Rule{r}})
	}
	return out
}

// serverAndClients attaches a server and those whom clients lists.
func (w *world) serverAndClients() {
	for i, role := range []string{"server", "friend", "foe"} {
		w.source.Pods = append(w.source.Pods, testPod(i+1, map[string]string{"role": role}))
		w.must(w.tables.UpsertEndpoint(testEndpoint(i + 1)))
	}
	w.apply()
	w.identities()
}

// allowedBy is what the policies of one side say, by the reference model.
func (w *world) allowedBy(d model.Direction, policies []model.Policy) map[who]string {
	labelsOf := LabelsOf(testNode(), w.snapshot())
	out := map[who]string{}
	for _, c := range clients() {
		server, client := reference.Party{Labels: labelsOf(w.source.Pods[0])}, reference.Party{Labels: labelsOf(w.source.Pods[c.pod-1])}
		q := reference.Question{Subject: server, Peer: client, Direction: d, Protocol: model.ProtoTCP, Port: c.port}
		if d == model.Egress {
			q.Subject, q.Peer = client, server
		}
		a := reference.Decide(policies, q)
		if a.Passes && len(a.L7) == 0 {
			out[c] = all
		}
		for _, ref := range a.L7 {
			for _, p := range policies {
				if p.Key == ref.Policy {
					out[c] += paths(p.Rules[0].L7)
				}
			}
		}
	}
	return out
}

// Whatever changes, and after every single write to the kernel or to the proxy: no
// request passes that neither the policies before nor those after allow, on no
// connection; and none is refused on a new connection that both allow. Also while
// writes fail.
func TestChangesOfRequestsPassNothingNewAndStopNothingOld(t *testing.T) {
	stayed, reset, rulesets := 0, 0, 0
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, fake.New())
		f := &traffic{l7: &l7{t: t, dp: w.dp, ready: 1 << 30}, t: t, seed: seed, open: connections{}}
		w.drive(watched{w.dp, f.look})
		w.engine.cfg.Proxy, w.engine.cfg.Proxied, w.engine.cfg.Rulesets = f, f, f
		w.serverAndClients()
		said := []string{"a", "a|b", "b|c", "c|d"}
		f.old = w.allowedBy(model.Ingress, nil)
		f.new = f.old
		w.settle()
		if seed%4 == 3 {
			w.dp.FailAtRandom(seed, 0.2)
		}
		for range 25 {
			f.connect()
			next := w.source.Policies
			if random.IntN(3) == 0 { // rules say something else, and all else stays
				said[random.IntN(4)] = []string{"a", "b|d", "c"}[random.IntN(3)]
				next = saying(next, said)
			} else {
				next = traffics(random, said)
			}
			w.source.Policies = next
			f.old, f.new = f.new, w.allowedBy(model.Ingress, next)
			w.apply()
			w.settle()
			f.look()
			f.old = f.new
			f.look()
			rulesets += len(f.told[len(f.told)-1].List)
			if random.IntN(2) == 0 {
				w.engine.tendRulesets(t.Context())
				w.settle()
			}
		}
		stayed, reset = stayed+f.stayed, reset+f.reset
	}
	t.Logf("connections stayed %d times and were reset %d times; %d rulesets", stayed, reset, rulesets)
	if stayed < 1000 || reset < 100 || rulesets < 1000 {
		t.Error("too few of one kind to say anything")
	}
}

// saying are the same policies with other paths.
func saying(policies []model.Policy, said []string) []model.Policy {
	var out []model.Policy
	for _, p := range policies {
		r := p.Rules[0]
		if r.L7 != nil {
			r.L7 = &model.L7{HTTP: []model.HTTPRule{{Path: said[p.Key.Name[1]-'0']}}}
		}
		p.Rules = []model.Rule{r}
		out = append(out, p)
	}
	return out
}
