// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

// acknowledgeWithin is how long policy sets that name new rulesets wait for the proxy:
// longer would hold up what needs no proxy.
const acknowledgeWithin = 2 * time.Second

// Proxy enforces rulesets.
type Proxy interface {
	// Update sets what is to be in force: all of it. It does not wait.
	Update(model.Rulesets)
	// WaitAcknowledged waits for a revision of them. It does not wait if there is no
	// proxy to wait for.
	WaitAcknowledged(context.Context, model.Revision) error
}

// ProxiedFlows is what the kernel knows of connections that the proxy has.
type ProxiedFlows interface {
	// SetRulesets says how many rulesets entries name or connections may have, and how
	// they belong together: all of it.
	SetRulesets(active int, links model.RulesetLinks) error
	// RulesetsInUse are those that connections have.
	RulesetsInUse() (map[model.RulesetID]bool, error)
}

// RulesetStore keeps the numbers over a restart.
type RulesetStore interface {
	Load() ([]rulesets.Row, []rulesets.Pair, error)
	Save([]rulesets.Row, []rulesets.Pair) error
}

// offer is what the proxy and the kernel have been told of rulesets.
type offer struct {
	revision model.Revision // counts changes of rulesets, from 1
	list     []model.Ruleset
	rows     []rulesets.Row // on disk
	pairs    []rulesets.Pair
	told     bool // the kernel was told active and links
	active   int
	links    model.RulesetLinks
}

// adoptRulesets takes up the numbers that a former agent gave. Without them the same
// ones come out again, short of collisions.
func (e *Engine) adoptRulesets() {
	if e.cfg.Rulesets == nil {
		return
	}
	rows, pairs, err := e.cfg.Rulesets.Load()
	if err != nil {
		e.cfg.Log.Error("the numbers of rulesets cannot be read, giving them anew", "error", err)
	}
	e.book, e.offered.rows, e.offered.pairs = rulesets.NewBook(rows, pairs), rows, pairs
	e.settled = e.book
}

// holders tells what the kernel holds for endpoints; nil as long as nobody asks for
// more than ports.
func (e *Engine) holders() map[uint32]rulesets.Holder {
	if e.book.Len() == 0 {
		return nil
	}
	out := make(map[uint32]rulesets.Holder)
	for row, set := range e.rec.AppliedSets() {
		out[row.ID] = rulesets.Holder{
			Isolated: [2]bool{model.Egress: row.EnforceEgress, model.Ingress: row.EnforceIngress}, Set: set,
		}
	}
	return out
}

// offerRulesets writes a book down before anyone uses its numbers, and has the proxy
// take what is new in it before the kernel names that. What is retired changes with
// settleRulesets, and connections get pairs as before.
func (e *Engine) offerRulesets(ctx context.Context, b rulesets.Book) {
	e.book = b
	e.writeDown(b)
	e.tellKernel(b.Len(), b.Links(e.settled))
	e.tellProxy(ctx, b.Interim(e.settled))
}

// settleRulesets has the kernel and the proxy take the book in full, once the kernel
// has the policy sets of it.
func (e *Engine) settleRulesets(ctx context.Context) {
	if e.last == nil {
		return
	}
	e.settled = e.book
	e.tellKernel(e.book.Len(), e.book.Links(e.book))
	e.tellProxy(ctx, e.book.List())
}

func (e *Engine) tellProxy(ctx context.Context, list []model.Ruleset) {
	if e.cfg.Proxy == nil || e.offered.revision > 0 && reflect.DeepEqual(list, e.offered.list) {
		return
	}
	known := make(map[model.RulesetID]bool, len(e.offered.list))
	for _, r := range e.offered.list {
		known[r.ID] = true
	}
	e.offered.revision++
	e.offered.list = list
	e.cfg.Proxy.Update(model.Rulesets{Revision: e.offered.revision, List: list})
	e.rulesetRevision.Store(uint64(e.offered.revision))
	if slices.ContainsFunc(list, func(r model.Ruleset) bool { return !known[r.ID] }) {
		e.awaitProxy(ctx)
	}
}

func (e *Engine) writeDown(b rulesets.Book) {
	rows, pairs, was := b.Rows(), b.Pairs(), &e.offered
	if e.cfg.Rulesets == nil || b.Len()+len(was.rows)+len(was.pairs) == 0 ||
		reflect.DeepEqual(rows, was.rows) && slices.Equal(pairs, was.pairs) {
		return
	}
	if err := e.cfg.Rulesets.Save(rows, pairs); err != nil {
		e.cfg.Log.Error("the numbers of rulesets cannot be written down", "error", err)
		return
	}
	was.rows, was.pairs = rows, pairs
}

func (e *Engine) tellKernel(active int, links model.RulesetLinks) {
	was := &e.offered
	if e.cfg.Proxied == nil || was.told && active == was.active && reflect.DeepEqual(links, was.links) {
		return
	}
	if err := e.cfg.Proxied.SetRulesets(active, links); err != nil {
		e.cfg.Log.Error("the kernel cannot be told of rulesets", "error", err)
		return
	}
	was.told, was.active, was.links = true, active, links
}

// awaitProxy waits a little for the proxy to have what is new. Without it connections
// of the new rulesets are refused until it has.
func (e *Engine) awaitProxy(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, acknowledgeWithin)
	defer cancel()
	if err := e.cfg.Proxy.WaitAcknowledged(within, e.offered.revision); err != nil && ctx.Err() == nil {
		e.cfg.Log.Warn("the proxy has not taken new rulesets yet, their connections are refused until it has", "error", err)
	}
}

// WaitRulesets returns when the proxy has what it was told before the call.
func (e *Engine) WaitRulesets(ctx context.Context) error {
	rev := model.Revision(e.rulesetRevision.Load())
	if e.cfg.Proxy == nil || rev == 0 {
		return nil
	}
	return e.cfg.Proxy.WaitAcknowledged(ctx, rev)
}

// tendRulesets tries again what failed, and gives up numbers. Before there was a first
// compilation nothing is known to be wanted.
func (e *Engine) tendRulesets(ctx context.Context) {
	if e.view.Load().Revision == 0 {
		return
	}
	e.offerRulesets(ctx, e.book)
	e.settleRulesets(ctx)
	e.freeRulesets(ctx)
}

// freeRulesets gives up retired numbers that no connection has. Nothing in the kernel
// may name one: only then can none come to have it.
func (e *Engine) freeRulesets(ctx context.Context) {
	if e.last == nil || len(e.book.Retired()) == 0 {
		return
	}
	var used map[model.RulesetID]bool
	if e.cfg.Proxied != nil {
		var err error
		if used, err = e.cfg.Proxied.RulesetsInUse(); err != nil {
			e.cfg.Log.Error("cannot tell which rulesets connections have, keeping them all", "error", err)
			return
		}
	}
	free := e.book.Free(used)
	if len(free) == 0 {
		return
	}
	e.offerRulesets(ctx, e.book.Without(free))
	e.settleRulesets(ctx)
	e.last = nil // what had no number may have one now
}

// wantedRulesets are those that results name, by their origins, each once.
func wantedRulesets(results []policy.Result) (out []model.Ruleset) {
	seen := make(map[*model.Ruleset]bool) // results are shared
	for i := range results {
		list := results[i].Rulesets
		if len(list) == 0 || seen[&list[0]] {
			continue
		}
		seen[&list[0]] = true
		out = append(out, list...)
	}
	slices.SortFunc(out, policy.CompareRulesets)
	return slices.CompactFunc(out, func(a, b model.Ruleset) bool { return policy.CompareRulesets(a, b) == 0 })
}

// numbersOf are the numbers of a result's rulesets, in a form that can be compared.
func numbersOf(r policy.Result, numbers rulesets.Numbers) string {
	var out []byte
	for _, rs := range r.Rulesets {
		out = binary.BigEndian.AppendUint16(out, uint16(numbers[rulesets.Key(rs)]))
	}
	return string(out)
}

// unnumbered are the rulesets for which there is no number.
func unnumbered(want []model.Ruleset, numbers rulesets.Numbers) (out []model.Ruleset) {
	for _, r := range want {
		if numbers[rulesets.Key(r)] == 0 {
			out = append(out, r)
		}
	}
	return out
}

// Origins are the rules that a ruleset is made of, those of both of a pair.
func (v *View) Origins(id model.RulesetID) []model.RulesetRule {
	if p, ok := v.Rulesets.Pair(id); ok {
		return slices.Concat(v.Origins(p.First), v.Origins(p.Then))
	}
	row, _ := v.Rulesets.Row(id)
	return row.Own.Rules
}

// withRulesets enters the rulesets, and what keeps policies from having one.
func (v *View) withRulesets(b rulesets.Book, refused []model.Ruleset, proxy bool) {
	v.Rulesets, v.Refused = b, len(refused)
	without := make(map[model.PolicyKey]int)
	for _, r := range refused {
		for i, o := range r.Rules {
			if i == 0 || r.Rules[i-1].Policy != o.Policy { // they are sorted
				without[o.Policy]++
			}
		}
	}
	for i := range v.Policies {
		p := &v.Policies[i]
		n := without[p.Key]
		if n == 0 {
			continue
		}
		text := "connections that its rules about requests are for are refused: this agent has no proxy, as envoy.binary is empty in its configuration; name one there, or remove these rules"
		if proxy {
			text = fmt.Sprintf("connections that its rules about requests are for are refused: %d more sets of such rules than the %d that a node may have meet on them; "+
				"put the rules of the same peers and ports into fewer policies", n, model.MaxRulesets)
		}
		if p.Message != "" {
			text = p.Message + "; " + text
		}
		p.Message = text
	}
}
