// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
	"github.com/weftmesh/weft/pkg/state"
)

// l7 is what stands around an engine for rulesets: a proxy, a kernel with
// connections, and a file.
type l7 struct {
	t      *testing.T
	dp     *fake.Datapath
	told   []model.Rulesets
	named  []map[model.RulesetID]bool // by the kernel, when the proxy was told
	ready  model.Revision             // up to which the proxy acknowledges
	waits  []int                      // how many the kernel named when it was waited for
	used   map[model.RulesetID]bool
	active int
	follow map[model.RulesetID]model.RulesetID
	before map[model.RulesetID]model.RulesetID
	pairs  map[model.RulesetID]model.RulesetPair
	rows   []rulesets.Row
	kept   []rulesets.Pair
	fails  error
	// failing: writes fail at random, so that the kernel may name what it was told before
	// the last two times.
	failing bool
}

func (p *l7) Update(r model.Rulesets) {
	p.told = append(p.told, r)
	p.named = append(p.named, p.kernel())
}

// kernel are the numbers that sets in the kernel name.
func (p *l7) kernel() map[model.RulesetID]bool {
	sets, err := p.dp.PolicySets()
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[model.RulesetID]bool{}
	for _, s := range sets {
		for _, e := range s.Entries {
			if e.Ruleset != 0 {
				out[e.Ruleset] = true
			}
		}
	}
	return out
}

func (p *l7) WaitAcknowledged(ctx context.Context, rev model.Revision) error {
	p.waits = append(p.waits, len(p.kernel()))
	if rev <= p.ready {
		return nil
	}
	return errors.New("no proxy is connected")
}

// SetRulesets asserts that no connection that may go on loses that before its entries
// are those that were asked for, but for one whose number is named again.
func (p *l7) SetRulesets(active int, links model.RulesetLinks) error {
	for id, to := range p.follow {
		again := slices.ContainsFunc(p.rows, func(r rulesets.Row) bool { return r.Own.ID == id && !r.Retired })
		if !p.failing && !again && p.kernel()[to] && links.As[id] != to && links.Before[id] != to {
			p.t.Errorf("the kernel names %d, under which connections of %d could go on, and can no more", to, id)
		}
	}
	p.active, p.follow, p.before, p.pairs = active, links.As, links.Before, links.Pairs
	return p.fails
}

func (p *l7) RulesetsInUse() (map[model.RulesetID]bool, error) { return p.used, p.fails }
func (p *l7) Load() ([]rulesets.Row, []rulesets.Pair, error)   { return p.rows, p.kept, p.fails }

func (p *l7) Save(rows []rulesets.Row, pairs []rulesets.Pair) error {
	if p.fails == nil {
		p.rows, p.kept = rows, pairs
	}
	return p.fails
}

// now is what the proxy has to enforce, as policies or "open", by number.
func (p *l7) now() map[model.RulesetID]string {
	out := map[model.RulesetID]string{}
	for _, r := range p.told[len(p.told)-1].List {
		var names []string
		for _, o := range r.Rules { // of one that is open, too
			names = append(names, o.Policy.Name+o.L7.HTTP[0].Path)
		}
		if len(names) == 0 {
			p.t.Errorf("%+v has no rules", r)
		}
		if out[r.ID] = strings.Join(names, " "); r.Open {
			out[r.ID] = "open"
		}
	}
	return out
}

// newL7World is a world with pods 1 (web) and 2 (client).
func newL7World(t *testing.T, dp *fake.Datapath) (*world, *l7) {
	t.Helper()
	w := newWorld(t, dp)
	p := &l7{t: t, dp: dp}
	w.join(p)
	w.source.Pods = scene().Pods[:2]
	return w, p
}

func (w *world) join(p *l7) {
	w.engine.cfg.Proxy, w.engine.cfg.Proxied, w.engine.cfg.Rulesets = p, p, p
	w.engine.adopt()
}

// put brings policies into the kernel.
func (w *world) put(policies ...model.Policy) {
	w.t.Helper()
	w.source.Policies = policies
	w.apply()
	w.identities()
	w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
	w.must(w.tables.UpsertEndpoint(testEndpoint(2)))
	w.settle()
}

// asking allows the client port 80 of the web, and asks for a path.
func asking(name, path string) model.Policy {
	client := selecting("app", "client")
	r := rule(model.Ingress, model.ActionAllow, "ingress[0].toPorts[0]", model.Peer{Selector: &client})
	r.Ports = []model.PortRange{{Protocol: model.ProtoTCP, First: 80, Last: 80}}
	if path != "" {
		r.L7 = &model.L7{HTTP: []model.HTTPRule{{Path: path}}}
	}
	return model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: name}, Subject: selecting("app", "web"),
		Isolate: [2]bool{model.Ingress: true}, Rules: []model.Rule{r}}
}

// only is the one key of a map.
func only[V any](t *testing.T, m map[model.RulesetID]V) model.RulesetID {
	t.Helper()
	ids := slices.Collect(maps.Keys(m))
	if len(ids) != 1 {
		t.Fatalf("%v, want one", m)
	}
	return ids[0]
}

func TestTheProxyKnowsARulesetBeforeTheKernelNamesIt(t *testing.T) {
	w, p := newL7World(t, fake.New())
	p.ready = 100
	w.put(asking("p", "/a"))
	id := only(t, p.kernel())
	if p.now()[id] != "p/a" || p.active != 1 || len(p.rows) != 1 || w.tables.DesiredRulesets()[0].ID != id {
		t.Errorf("%d is %q, %d active, rows %+v, desired %+v", id, p.now()[id], p.active, p.rows, w.tables.DesiredRulesets())
	}
	if len(p.waits) == 0 || p.waits[0] != 0 {
		t.Errorf("when the proxy was waited for, the kernel named %v rulesets", p.waits)
	}
	for i, r := range p.told {
		for _, one := range r.List {
			if p.named[i][one.ID] {
				t.Errorf("the kernel named %d before the proxy was told", one.ID)
			}
		}
	}
	// What a rule says reaches the proxy alone.
	writes := w.dp.Writes()
	w.put(asking("p", "/b"))
	if p.now()[id] != "p/b" || w.dp.Writes() != writes {
		t.Errorf("%d is %q, %d writes to the kernel", id, p.now()[id], w.dp.Writes()-writes)
	}
	before := len(p.told)
	w.must(w.tables.ReplaceHostAddrs(nil))
	w.settle()
	if len(p.told) != before {
		t.Error("the proxy was told what it knew")
	}
	if err := w.engine.WaitRulesets(t.Context()); err != nil {
		t.Error(err)
	}
}

// An agent whose kernel hands nothing over refuses what it cannot enforce.
func TestWithoutAHandOverNothingPasses(t *testing.T) {
	w, p := newL7World(t, fake.New())
	w.engine.cfg.Node.Proxy = false
	w.put(asking("p", "/a"))
	view := w.engine.View()
	if len(p.kernel()) != 0 || !strings.Contains(view.Policies[0].Message, "this agent has no proxy") {
		t.Errorf("the kernel names %v, the policy says %q", p.kernel(), view.Policies[0].Message)
	}
	denied := slices.ContainsFunc(view.Endpoints[0].Entries, func(e model.PolicyEntry) bool { return e.Port == 80 && e.Action == model.ActionDeny })
	if !denied {
		t.Errorf("entries %+v", view.Endpoints[0].Entries)
	}
}

func TestWithoutAProxyNothingWaits(t *testing.T) {
	w, p := newL7World(t, fake.New())
	begin := time.Now()
	w.put(asking("p", "/a"))
	if only(t, p.kernel()) == 0 || time.Since(begin) > acknowledgeWithin {
		t.Errorf("it took %s", time.Since(begin))
	}
	if err := w.engine.WaitRulesets(t.Context()); err == nil {
		t.Error("what nobody acknowledged counts as acknowledged")
	}
}

func TestNumbersOutliveTheAgentAndTheirEntries(t *testing.T) {
	dp := fake.New()
	w, p := newL7World(t, dp)
	w.put(asking("p", "/a"), asking("q", "/b"))
	first := only(t, p.kernel())
	p.used = map[model.RulesetID]bool{first: true}

	// Another agent: the numbers are in the file, and another one's rules follow.
	again, q := newL7World(t, dp)
	q.rows, q.used = p.rows, p.used
	again.join(q)
	writes := dp.Writes()
	again.put(asking("p", "/a"), asking("q", "/b"))
	if got := only(t, q.kernel()); got != first || dp.Writes()-writes > 2 {
		t.Fatalf("after a restart the number is %d, not %d, with %d writes", got, first, dp.Writes()-writes)
	}
	again.put(asking("p", "/a"))
	second := only(t, q.kernel())
	want := map[model.RulesetID]string{first: "p/a", second: "p/a"}
	if !maps.Equal(q.now(), want) || q.follow[first] != second || q.active != 2 {
		t.Errorf("the proxy has %v, want %v; successors %v", q.now(), want, q.follow)
	}
	again.put(asking("p", ""))
	if want := map[model.RulesetID]string{first: "open", second: "open"}; !maps.Equal(q.now(), want) || len(q.kernel()) != 0 {
		t.Errorf("the proxy has %v, want %v", q.now(), want)
	}
	// The connections of one end.
	again.engine.tendRulesets(t.Context())
	if got := only(t, q.now()); got != first {
		t.Errorf("left is %d, in use is %d", got, first)
	}
	q.used = nil
	again.settle()
	again.engine.tendRulesets(t.Context())
	if len(q.now()) != 0 || q.active != 0 || len(q.rows) != 0 {
		t.Errorf("left are %v, %d active, rows %+v", q.now(), q.active, q.rows)
	}
}

// TestRulesGoBackAndForth, and so do the successors of rulesets that connections have.
func TestRulesGoBackAndForth(t *testing.T) {
	w, p := newL7World(t, fake.New())
	both, one := []model.Policy{asking("p", "/a"), asking("q", "/b")}, []model.Policy{asking("p", "/a")}
	w.put(both...)
	first := only(t, p.kernel())
	w.put(one...)
	second := only(t, p.kernel())
	p.used = map[model.RulesetID]bool{first: true, second: true}
	for range 2 {
		if w.put(both...); p.follow[second] != first || only(t, p.kernel()) != first {
			t.Errorf("with both, successors are %v of %d and %d", p.follow, first, second)
		}
		if w.put(one...); p.follow[first] != second || only(t, p.kernel()) != second {
			t.Errorf("with one, successors are %v of %d and %d", p.follow, first, second)
		}
	}
}

func TestWhatCannotBeWrittenDownIsTriedAgain(t *testing.T) {
	w, p := newL7World(t, fake.New())
	p.fails = errors.New("full")
	w.put(asking("p", "/a"))
	only(t, p.kernel()) // it is in force all the same
	p.fails = nil
	w.engine.tendRulesets(t.Context())
	if len(p.rows) != 1 || !w.engine.offered.told {
		t.Errorf("rows %+v, told %v", p.rows, w.engine.offered.told)
	}
}

func TestOneRulesetTooManyRefuses(t *testing.T) {
	w, p := newL7World(t, fake.New())
	var policies []model.Policy
	for i := range model.MaxRulesets + 1 {
		one := asking(fmt.Sprintf("p%04d", i), "/a")
		one.Rules[0].Ports[0] = model.PortRange{Protocol: model.ProtoTCP, First: uint16(i + 1), Last: uint16(i + 1)}
		policies = append(policies, one)
	}
	w.put(policies...)
	if len(p.kernel()) != model.MaxRulesets || len(p.now()) != model.MaxRulesets {
		t.Errorf("the kernel has %d, the proxy %d", len(p.kernel()), len(p.now()))
	}
	view := w.engine.View()
	for _, e := range view.Endpoints[0].Entries {
		if last := e.Port == model.MaxRulesets+1; last != (e.Action == model.ActionDeny) && e.Port != 0 {
			t.Fatalf("entry %+v", e)
		}
	}
	for _, one := range view.Policies {
		last := one.Key.Name == fmt.Sprintf("p%04d", model.MaxRulesets)
		if last != strings.Contains(one.Message, "1 more sets of such rules than the 1000") {
			t.Fatalf("%s: %q", one.Key, one.Message)
		}
	}
	if view.Refused != 1 {
		t.Errorf("%d are refused", view.Refused)
	}
	// When there is room again, it has a number.
	w.put(policies[1:]...)
	w.engine.tendRulesets(t.Context())
	w.settle()
	w.step()
	if named := p.kernel(); len(named) != model.MaxRulesets || w.engine.View().Refused != 0 {
		t.Errorf("the kernel has %d, refused are %d", len(named), w.engine.View().Refused)
	}
}

// The same maps and the same rulesets, whatever order events come in.
func TestRulesetsDoNotDependOnTheOrderOfPolicies(t *testing.T) {
	all := []model.Policy{asking("a", "/a"), asking("b", "/b"), asking("c", "")}
	all[2].Rules[0].Ports[0] = model.PortRange{Protocol: model.ProtoTCP, First: 81, Last: 81}
	var want map[model.RulesetID]string
	for round := range 6 {
		w, p := newL7World(t, fake.New())
		order := slices.Clone(all)
		for i := range order { // the permutations of three
			j := (round / (i + 1)) % len(order)
			order[i], order[j] = order[j], order[i]
		}
		for n := range order {
			w.source = state.Source{Pods: w.source.Pods, Policies: slices.Clone(order[:n+1])}
			w.put(w.source.Policies...)
		}
		w.engine.tendRulesets(t.Context())
		if id := only(t, p.kernel()); round == 0 {
			want = p.now()
		} else if !maps.Equal(p.now(), want) || p.now()[id] != "a/a b/b" {
			t.Fatalf("round %d: %v, want %v", round, p.now(), want)
		}
	}
}
