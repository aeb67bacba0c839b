// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/reference"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/policygen"
	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) {
	if err := policygen.Fix("100"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
	sandbox.Main(m)
}

// TestModelRowsAndKernelAgree asks a million questions in a long run. The rules
// that the rows name must be among those that decide in the model (there is often
// one only); the kernel must name exactly the rows'.
func TestModelRowsAndKernelAgree(t *testing.T) {
	k := newKernel(t)
	worlds, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	if err != nil {
		t.Fatal(err)
	}
	each := (level.Scale(1_000_000) + worlds - 1) / worlds
	asked := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t)
		if err := k.put(n.rows(k.devices)); err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "questions"), 1))
		for i := range each {
			q := n.question(random, uint16(i))
			asked[n.judge(t, k, q)]++
			asked[q.kind(n)]++
		}
	})
	checkCovered(t, asked)
}

// checkCovered fails if the generators hardly reach some kind of question or of
// answer.
func checkCovered(t *testing.T, asked map[string]int) {
	t.Helper()
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(asked)) {
		t.Logf("%8d %s", asked[kind], kind)
	}
	for _, answer := range answers() {
		total += asked[answer]
	}
	if total < level.Scale(1_000_000) {
		t.Errorf("%d questions were asked, want %d", total, level.Scale(1_000_000))
	}
	for _, kind := range append(kinds(), answers()...) {
		if asked[kind] < total/500 {
			t.Errorf("%d of %d questions are of kind %q", asked[kind], total, kind)
		}
	}
}

// answers are all that there are.
func answers() []string {
	return []string{passedDefault, passedRule, droppedRule, droppedDefault, toProxy}
}

const (
	passedDefault  = "passed, as no rule speaks of it"
	passedRule     = "passed by a rule"
	droppedRule    = "dropped by a rule"
	droppedDefault = "dropped by default"
	toProxy        = "for the proxy, which is not there"
)

// judge asks all three, compares, and tells what the answer was.
func (n *node) judge(t *rapid.T, k *kernel, q question) string {
	rows := n.rowsSay(t, q)
	if err := n.kernelSays(k, q, rows); err != nil {
		t.Fatalf("%s\nthe kernel differs from the rows, which say %+v: %v\npolicies %+v", n.describe(q), rows, err, n.In.Policies)
	}
	switch {
	case rows.reason == weftbpf.BpfWeftReasonWEFT_DROP_POLICY_DENY:
		return droppedRule
	case rows.reason == weftbpf.BpfWeftReasonWEFT_DROP_PROXY_NOT_READY:
		return toProxy
	case rows.reason != weftbpf.BpfWeftReasonWEFT_PASSED:
		return droppedDefault
	case rows.rule != [2]model.RuleID{}:
		return passedRule
	}
	return passedDefault
}

// decision is what becomes of a packet.
type decision struct {
	reason weftbpf.BpfWeftReason
	dir    model.Direction  // that refused
	rule   [2]model.RuleID  // by direction; 0: none
	peer   model.IdentityID // whom the refusing side saw
}

// sides are the directions in which a question is asked, with subject and peer.
func (n *node) sides(q question) (out []asked) {
	from, to := n.parties[q.from], n.parties[q.to]
	if from.slot != 0 {
		out = append(out, asked{model.Egress, from, to})
	}
	if to.slot != 0 {
		out = append(out, asked{model.Ingress, to, from})
	}
	return out
}

type asked struct {
	dir           model.Direction
	subject, peer party
}

// rowsSay looks up the compiled rows of each side, and compares each with the
// model.
func (n *node) rowsSay(t *rapid.T, q question) (d decision) {
	proxied := false
	for _, a := range n.sides(q) {
		res := n.out.Results[a.subject.pod]
		e := policygen.Lookup(res.Set.Entries, a.dir, a.peer.id, q.flow.proto, q.port())
		want := reference.Decide(n.In.Policies, reference.Question{Subject: a.subject.Party, Peer: a.peer.Party,
			Direction: a.dir, Protocol: q.flow.proto, Port: q.port()})
		passes := e.Action == model.ActionAllow || e.Action == model.ActionNone && !res.Isolate[a.dir]
		if e.Action != want.Action || passes != want.Passes {
			t.Fatalf("%s\n%s: the rows say %s (passes %v), the model %+v\npolicies %+v",
				n.describe(q), a.dir, e.Action, passes, want, n.In.Policies)
		}
		if ref, ok := n.out.Rules.Ref(e.Rule); e.Action != model.ActionNone && (!ok || !slices.Contains(want.Rules, ref)) {
			t.Fatalf("%s\n%s: the row names rule %+v, which is none of %+v", n.describe(q), a.dir, ref, want.Rules)
		}
		if !sameRules(ofRuleset(res, e.Ruleset), want.L7) {
			t.Fatalf("%s\n%s: the row asks for %+v, the model for %+v\npolicies %+v",
				n.describe(q), a.dir, ofRuleset(res, e.Ruleset), want.L7, n.In.Policies)
		}
		d.rule[a.dir], d.dir, d.peer = e.Rule, a.dir, a.peer.id
		proxied = proxied || e.Ruleset != 0 && q.flow.proto == model.ProtoTCP
		if !passes {
			d.reason = weftbpf.BpfWeftReasonWEFT_DROP_POLICY_DENY
			if e.Action == model.ActionNone {
				d.reason = weftbpf.BpfWeftReasonWEFT_DROP_POLICY_DEFAULT
			}
			return d
		}
	}
	if proxied { // nobody listens: who asks is told, after all sides have let it pass
		d.reason = weftbpf.BpfWeftReasonWEFT_DROP_PROXY_NOT_READY
	}
	return d
}

// ofRuleset are the rules that one of a result is made of.
func ofRuleset(res policy.Result, id model.RulesetID) (out []model.RuleRef) {
	if id == 0 {
		return nil
	}
	for _, r := range res.Rulesets[id-1].Rules {
		out = append(out, model.RuleRef{Policy: r.Policy, Rule: r.Name, Action: model.ActionAllow})
	}
	return out
}

// sameRules compares lists in which each rule is once.
func sameRules(a, b []model.RuleRef) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(r model.RuleRef) bool { return !slices.Contains(b, r) })
}

// kernelSays runs the program and compares verdict, reason, rules, identities and
// slots with what the rows say.
func (n *node) kernelSays(k *kernel, q question, want decision) error {
	from, to := n.parties[q.from], n.parties[q.to]
	own, in := from.slot, uint32(0)
	dst, src := hostMAC(from.slot), podMAC(from.slot)
	if q.hook == model.Ingress {
		own, in = to.slot, n.origin(k, from)
		dst, src = podMAC(to.slot), hostMAC(to.slot)
	}
	got, err := k.ask(q.flow, q.hook, k.devices[own-1], in, dst, src)
	if err != nil {
		return err
	}
	passed := uint32(actOK)
	if q.hook == model.Egress && to.slot != 0 {
		passed = redirect
	}
	switch {
	case want.reason == weftbpf.BpfWeftReasonWEFT_PASSED:
		if got.verdict != passed || got.ct == nil {
			return fmt.Errorf("verdict %d, want %d; flow %+v", got.verdict, passed, got.ct)
		}
		return n.checkFlow(got.ct, from, to, want)
	case want.reason == weftbpf.BpfWeftReasonWEFT_DROP_PROXY_NOT_READY:
		if got.verdict != redirect || got.ct != nil {
			return fmt.Errorf("verdict %d, want a reset sent back; flow %+v", got.verdict, got.ct)
		}
	case got.verdict != actShot || got.ct != nil:
		return fmt.Errorf("verdict %d, want a drop; flow %+v", got.verdict, got.ct)
	}
	family, _ := q.flow.key()
	key := weftbpf.BpfWeftDropKey{Peer: uint32(want.peer), Rule: uint32(want.rule[want.dir]), Dport: wire16(q.port()),
		Slot: own, Reason: uint8(want.reason), Dir: uint8(want.dir), Proto: q.flow.proto, Family: uint8(family)}
	if ok, err := k.dropped(key); err != nil || !ok {
		return fmt.Errorf("no drop of kind %+v was counted: %v", key, err)
	}
	return nil
}

// checkFlow compares what conntrack holds of a flow that passed.
func (n *node) checkFlow(ct *weftbpf.BpfWeftCt, from, to party, want decision) error {
	rules := [2]uint32{uint32(want.rule[model.Egress]), uint32(want.rule[model.Ingress])}
	ids := [2]uint32{uint32(from.id), uint32(to.id)}
	if ct.Rule != rules || ct.Identity != ids || ct.Slot != [2]uint16{from.slot, to.slot} {
		return fmt.Errorf("the flow has rules %v, identities %v, slots %v; want %v, %v, %d and %d",
			ct.Rule, ct.Identity, ct.Slot, rules, ids, from.slot, to.slot)
	}
	return nil
}

// compile is what the agent would make of the world.
func compile(t *rapid.T, w policygen.World) policy.Output {
	out, err := policy.Compile(w.In)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
