// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

// ProxyFault keeps a ruleset from being in force as it is written.
type ProxyFault struct {
	Ruleset model.RulesetID
	Policy  model.PolicyKey // zero: not known which of the ruleset's
	Rule    string          // place in the policy; empty: all of the policy's
	Text    string
}

// L7 is where the server reads what is asked above ports; each may be nil: not known.
type L7 struct {
	// Wait returns when every proxy that is connected has acknowledged the rulesets of
	// all intent that the kernel has.
	Wait   func(context.Context) error
	Ready  func() (map[model.RulesetID]bool, error) // rulesets that the proxy listens for
	InUse  func() (map[model.RulesetID]bool, error) // that connections have
	Faults func() []ProxyFault
	Config func() *agentv1.ListProxyConfigResponse
}

// How long a wait for intent waits for a proxy to connect, and how often it looks.
const (
	proxyComesWithin = 5 * time.Second
	proxyLookEvery   = 100 * time.Millisecond
)

// waitProxy is the part of a wait for intent that is the proxy's. Where none is to be
// had the answer's components say so.
func (s *Server) waitProxy(ctx context.Context) error {
	if s.cfg.L7.Wait == nil || s.cfg.View().Rulesets.Len() == 0 {
		return nil
	}
	comes := time.NewTimer(proxyComesWithin)
	defer comes.Stop()
	look := time.NewTicker(proxyLookEvery)
	defer look.Stop()
	for {
		connected := s.proxyConfig().GetProxies() > 0
		err := s.cfg.L7.Wait(ctx)
		switch {
		case err != nil:
			return status.Error(codes.DeadlineExceeded, "the kernel has all intent, and the proxy has not acknowledged all rulesets: "+err.Error())
		case connected:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-comes.C:
			return nil
		case <-look.C:
		}
	}
}

// ListRulesets lists what the proxy enforces.
func (s *Server) ListRulesets(context.Context, *agentv1.ListRulesetsRequest) (*agentv1.ListRulesetsResponse, error) {
	ready, err := known(s.cfg.L7.Ready)
	if err != nil {
		return nil, fmt.Errorf("reading which rulesets are listened for: %w", err)
	}
	used, err := known(s.cfg.L7.InUse)
	if err != nil {
		return nil, fmt.Errorf("reading which rulesets connections have: %w", err)
	}
	faults := s.faults()
	out := &agentv1.ListRulesetsResponse{}
	book := s.cfg.View().Rulesets
	for _, row := range book.Rows() {
		out.Rulesets = append(out.Rulesets, ruleset(row))
	}
	for _, p := range book.Pairs() {
		out.Rulesets = append(out.Rulesets, pairOf(p, book))
	}
	slices.SortFunc(out.Rulesets, func(a, b *agentv1.Ruleset) int { return cmp.Compare(a.GetNumber(), b.GetNumber()) })
	for _, one := range out.Rulesets {
		id := model.RulesetID(one.GetNumber())
		one.Ready, one.Connections, one.Faults = ready(id), used(id), faultsOf(one, faults)
	}
	return out, nil
}

// faultsOf are what keeps each of a ruleset's rules from being in force, and then what
// is not known to be of any.
func faultsOf(one *agentv1.Ruleset, all []ProxyFault) (out []string) {
	texts := make([][]string, len(one.GetRules())+1)
	for _, f := range all {
		if n := uint32(f.Ruleset); n != one.GetNumber() && !slices.Contains(one.GetPair(), n) {
			continue
		}
		told := false
		for i, r := range one.GetRules() {
			if f.Policy == flow.PolicyOf(r) && (f.Rule == "" || f.Rule == r.GetRule()) {
				texts[i], told = append(texts[i], f.Text), true
			}
		}
		if !told {
			texts[len(texts)-1] = append(texts[len(texts)-1], f.Text)
		}
	}
	for _, of := range texts {
		out = append(out, strings.Join(of, "; "))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// pairOf is two rulesets in one, with the rules of both.
func pairOf(p rulesets.Pair, book rulesets.Book) *agentv1.Ruleset {
	out := &agentv1.Ruleset{Number: uint32(p.ID), State: inForce, Pair: []uint32{uint32(p.First), uint32(p.Then)}}
	if p.Retired {
		out.State = retired
	}
	for _, id := range []model.RulesetID{p.First, p.Then} {
		row, _ := book.Row(id)
		one := ruleset(row)
		out.Rules, out.Asks = append(out.Rules, one.GetRules()...), append(out.Asks, one.GetAsks()...)
	}
	return out
}

// What a ruleset's state is called.
const (
	inForce = "in force"
	retired = "retired"
)

// known reads a set of numbers, of which nothing may be known.
func known(read func() (map[model.RulesetID]bool, error)) (func(model.RulesetID) agentv1.Readiness, error) {
	if read == nil {
		return func(model.RulesetID) agentv1.Readiness { return agentv1.Readiness_READINESS_UNSPECIFIED }, nil
	}
	set, err := read()
	return func(id model.RulesetID) agentv1.Readiness {
		if set[id] {
			return agentv1.Readiness_READINESS_YES
		}
		return agentv1.Readiness_READINESS_NO
	}, err
}

func ruleset(row rulesets.Row) *agentv1.Ruleset {
	out := &agentv1.Ruleset{Number: uint32(row.Own.ID), State: inForce, Audit: row.Own.Audit}
	switch {
	case row.Retired && row.Open:
		out.State, out.Says = retired, "open"
	case row.Retired && row.As != 0:
		out.State, out.Says = retired, fmt.Sprintf("as %d", row.As)
	case row.Retired:
		out.State = retired
	}
	for _, r := range row.Own.Rules {
		out.Rules = append(out.Rules, &agentv1.RuleRef{Kind: r.Policy.Kind, Namespace: r.Policy.Namespace, Name: r.Policy.Name,
			Rule: r.Name, Action: model.ActionAllow.String()})
		out.Asks = append(out.Asks, asks(&r.L7))
	}
	return out
}

// asks is what a rule asks for, on one line.
func asks(l *model.L7) string {
	var out []string
	for i := range l.HTTP {
		out = append(out, asksHTTP(&l.HTTP[i]))
	}
	for _, g := range l.GRPC {
		out = append(out, "gRPC "+orAny(g.Service)+"/"+orAny(g.Method))
	}
	if len(l.ServerNames) > 0 {
		out = append(out, "TLS to "+strings.Join(l.ServerNames, ", "))
	}
	return strings.Join(out, "; ")
}

func asksHTTP(h *model.HTTPRule) string {
	out := orAny(h.Method) + " " + h.Host + orAny(h.Path)
	for _, m := range h.Headers {
		out += " " + m.Name
		if m.Value != "" {
			out += ": " + m.Value
		}
		if action := mismatchName(m.Mismatch); action != "" {
			out += " (" + action + ")"
		}
	}
	return out
}

func orAny(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

func mismatchName(m model.Mismatch) string {
	return [...]string{model.MismatchDeny: "", model.MismatchLog: "else log", model.MismatchAdd: "else add",
		model.MismatchDelete: "else delete", model.MismatchReplace: "else replace"}[m]
}

// ListProxyConfig lists what the proxy was given.
func (s *Server) ListProxyConfig(context.Context, *agentv1.ListProxyConfigRequest) (*agentv1.ListProxyConfigResponse, error) {
	if s.cfg.L7.Config == nil {
		return &agentv1.ListProxyConfigResponse{}, nil
	}
	return s.cfg.L7.Config(), nil
}

// proxyStatus is the proxy's line in weft status.
func (s *Server) proxyStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "proxy", Health: agentv1.Health_HEALTH_OK}
	view := s.cfg.View()
	n := view.Rulesets.Len()
	var bad []string
	switch {
	case view.Refused > 0 && s.cfg.L7.Wait == nil:
		bad = append(bad, "this agent has no proxy, as envoy.binary is empty in its configuration: connections of "+plural(view.Refused)+" are refused")
	case view.Refused > 0:
		bad = append(bad, fmt.Sprintf("connections of %s more than the %d that a node may have are refused", plural(view.Refused), model.MaxRulesets))
	}
	switch config := s.proxyConfig(); {
	case n == 0 && view.Refused > 0:
	case n == 0:
		out.Message = "not needed: no rule asks for more than ports"
	case config == nil || config.GetProxies() == 0:
		bad = append(bad, "none is connected to the agent: unless one goes on with what it was told last, connections of "+plural(n)+" are refused")
	case config.GetAcknowledgedRevision() < config.GetWantedRevision():
		out.Message = plural(n) + ", the newest not acknowledged yet"
	default:
		out.Message = plural(n) + ", acknowledged"
	}
	switch faults := s.faultTexts(); {
	case len(faults) > 1:
		bad = append(bad, fmt.Sprintf("%d faults, the first: %s", len(faults), faults[0]))
	case len(faults) > 0:
		bad = append(bad, faults[0])
	}
	if len(bad) > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = strings.Join(append(bad, nonEmpty(out.Message)...), "; ")
	}
	return out
}

// faults are those of the proxy; none if nothing is known of any.
func (s *Server) faults() []ProxyFault {
	if s.cfg.L7.Faults == nil {
		return nil
	}
	return s.cfg.L7.Faults()
}

// faultTexts are the faults with their policies, each once: a rule may be in several
// rulesets.
func (s *Server) faultTexts() (out []string) {
	for _, f := range s.faults() {
		text := f.Text
		if f.Policy != (model.PolicyKey{}) {
			text = f.Policy.String() + ": " + text
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

func (s *Server) proxyConfig() *agentv1.ListProxyConfigResponse {
	if s.cfg.L7.Config == nil {
		return nil
	}
	return s.cfg.L7.Config()
}

func plural(n int) string {
	if n == 1 {
		return "a ruleset"
	}
	return fmt.Sprintf("%d rulesets", n)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// proxyMessages are the faults by policy, of policies that there are.
func (s *Server) proxyMessages(view *engine.View) map[model.PolicyKey]string {
	texts := make(map[model.PolicyKey][]string)
	for _, f := range s.faults() {
		policies := []model.PolicyKey{f.Policy}
		if f.Policy == (model.PolicyKey{}) {
			policies = nil
			for _, r := range view.Origins(f.Ruleset) {
				policies = append(policies, r.Policy)
			}
		}
		text := f.Text
		if f.Rule == "" {
			text = fmt.Sprintf("ruleset %d is not in force as it is written: %s", f.Ruleset, text)
		}
		for _, p := range policies {
			if !slices.Contains(texts[p], text) {
				texts[p] = append(texts[p], text)
			}
		}
	}
	out := make(map[model.PolicyKey]string, len(texts))
	for p, all := range texts {
		out[p] = strings.Join(all, "; ")
	}
	return out
}
