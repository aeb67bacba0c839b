// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// maxText is how much is kept of each text of a request: the store's size is a number
// of flows, and clients choose their texts.
const maxText = 1024

// RequestEvent is what the proxy tells of a request that has ended.
type RequestEvent struct {
	model.Request
	Time        time.Time
	Took        time.Duration
	Source      netip.AddrPort
	Destination netip.AddrPort // that the client wanted
	Sent        uint64         // bytes from the client
	Received    uint64         // bytes to the client
	// By is what the rulesets said of it that were asked, in their order: one, or two of a
	// pair whose first one let it pass. The request's outcome comes of these.
	By []Decision
}

// Decision is what a ruleset said of a request.
type Decision struct {
	Outcome model.Outcome
	Policy  model.PolicyKey // with the rule, if one decided
	Rule    string
}

// weight orders decisions by how much they say of what became of a request.
func (d Decision) weight() int {
	switch d.Outcome {
	case model.RequestOpen:
		return 0
	case model.RequestAllowed:
		return 1
	case model.RequestAudited:
		return 2
	}
	return 3 // it did not pass
}

// decisive is the place of the decision of which the request's outcome comes.
func decisive(by []Decision) (at int) {
	for i, d := range by {
		if d.weight() >= by[at].weight() {
			at = i
		}
	}
	return at
}

// Rulesets tell what the numbers of rulesets stand for.
type Rulesets interface {
	// Origins are the rules that a ruleset is made of; none for an unknown number.
	Origins(model.RulesetID) []model.RulesetRule
}

// Requests carries what the proxy tells into the store.
type Requests struct {
	Names  func() (Names, Rulesets) // of one snapshot
	Store  *Store
	counts [4]atomic.Uint64 // by verdict
}

// Add takes one event. It may be called at the same time.
func (r *Requests) Add(e RequestEvent) {
	names, rulesets := r.Names()
	f := EnrichRequest(&e, names, rulesets)
	r.counts[VerdictOf(f)&3].Add(1)
	r.Store.Add([]*model.Flow{f}, 0)
}

// Counts are how many requests there were, by verdict.
func (r *Requests) Counts() map[string]uint64 {
	return map[string]uint64{"forwarded": r.counts[1].Load(), "dropped": r.counts[2].Load(), "audit": r.counts[3].Load()}
}

// EnrichRequest is Enrich for a request.
func EnrichRequest(e *RequestEvent, names Names, rulesets Rulesets) *model.Flow {
	req := e.Request
	for _, text := range []*string{&req.Method, &req.Path, &req.Host, &req.Detail} {
		*text = strings.Clone((*text)[:min(len(*text), maxText)]) // or the whole record would be kept
	}
	f := &model.Flow{
		Time: e.Time, Type: model.FlowRequest, Protocol: model.ProtoTCP, Age: e.Took, Count: 1,
		Bytes: [2]uint64{e.Sent, e.Received}, Request: &req,
		Peers: [2]model.FlowPeer{party(e.Source, names), party(e.Destination, names)},
	}
	origins := rulesets.Origins(req.Ruleset)
	asked := directions(origins)
	at := decisive(e.By)
	if at < len(asked) {
		f.Direction = asked[at]
	}
	if at < len(e.By) {
		req.Outcome = e.By[at].Outcome
	}
	for i, d := range e.By {
		if i < len(asked) {
			f.Rules[asked[i]] = refs(d, asked[i], origins)
		} else if d.Rule != "" { // of a ruleset that is not known any more
			f.Rules[f.Direction] = refs(d, f.Direction, nil)
		}
	}
	return f
}

// directions are those in which a ruleset's rules are, of a pair's first ruleset before
// those of the other.
func directions(origins []model.RulesetRule) (out []model.Direction) {
	for _, o := range origins {
		if !slices.Contains(out, o.Direction) {
			out = append(out, o.Direction)
		}
	}
	return out
}

// refs are the rule that decided, or the policies in a direction none of whose rules
// allowed what was asked: these are the reason.
func refs(d Decision, in model.Direction, origins []model.RulesetRule) (out []model.RuleRef) {
	switch {
	case d.Outcome == model.RequestOpen:
		return nil
	case d.Rule != "":
		return []model.RuleRef{{Policy: d.Policy, Rule: d.Rule, Action: model.ActionAllow}}
	}
	for _, o := range origins {
		if o.Direction == in && (len(out) == 0 || out[len(out)-1].Policy != o.Policy) {
			out = append(out, model.RuleRef{Policy: o.Policy, Action: model.ActionDeny})
		}
	}
	return out
}

// party is who has an address now; the proxy knows addresses only.
func party(at netip.AddrPort, names Names) model.FlowPeer {
	p := model.FlowPeer{Addr: at.Addr().Unmap(), Port: at.Port()}
	if w, ok := names.Workload(p.Addr); ok {
		p.Pod, p.Endpoint, p.Workload, p.Identity = w.Pod, w.Endpoint, w.Owner, w.Identity
		p.Labels, _ = names.Labels(p.Identity)
	}
	return p
}
