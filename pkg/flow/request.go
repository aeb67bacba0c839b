// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
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
	// Policy and Rule decided, if one did.
	Policy model.PolicyKey
	Rule   string
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
		*text = (*text)[:min(len(*text), maxText)]
	}
	f := &model.Flow{
		Time: e.Time, Type: model.FlowRequest, Protocol: model.ProtoTCP, Age: e.Took, Count: 1,
		Bytes: [2]uint64{e.Sent, e.Received}, Request: &req,
		Peers: [2]model.FlowPeer{party(e.Source, names), party(e.Destination, names)},
	}
	for _, o := range rulesets.Origins(req.Ruleset) {
		f.Direction = o.Direction
		if e.Rule == "" && (len(f.Rules[o.Direction]) == 0 || f.Rules[o.Direction][len(f.Rules[o.Direction])-1].Policy != o.Policy) {
			// Nothing that it asks for was there: its policies are the reason.
			f.Rules[o.Direction] = append(f.Rules[o.Direction], model.RuleRef{Policy: o.Policy, Action: model.ActionDeny})
		}
	}
	if e.Rule != "" {
		f.Rules[f.Direction] = []model.RuleRef{{Policy: e.Policy, Rule: e.Rule, Action: model.ActionAllow}}
	}
	if req.Outcome == model.RequestOpen {
		f.Rules = [2][]model.RuleRef{}
	}
	return f
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
