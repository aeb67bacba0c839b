// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// requestVerdict is the word for what became of a request and its colour.
func requestVerdict(f *agentv1.Flow) (word, color string) {
	switch f.GetVerdict() {
	case agentv1.Verdict_VERDICT_FORWARDED:
		return "ALLOWED", green
	case agentv1.Verdict_VERDICT_AUDIT:
		return "AUDIT", yellow
	}
	return "DENIED", red
}

// requestWhy is what was asked for and answered, and which rules decided. Texts of
// clients are made fit for a terminal.
func requestWhy(f *agentv1.Flow) string {
	r, refs := f.GetRequest(), decided(f)
	parts := []string{asked(r)}
	if a := answered(f); a != "" {
		parts[0] += " " + a
	}
	switch model.Outcome(r.GetOutcome()) {
	case model.RequestAllowed:
		parts = append(parts, "allowed by "+names(append(slices.Clone(f.GetEgress()), f.GetIngress()...)))
	case model.RequestOpen:
		parts = append(parts, "allowed: no rule asks for anything any more")
	case model.RequestAudited:
		parts = append(parts, "let pass, but no rule of "+names(refs)+" allows it")
	case model.RequestDenied:
		parts = append(parts, "no rule of "+names(refs)+" allows it")
	case model.RequestFaulty:
		parts = append(parts, "no rule of "+names(refs)+" allows it; one has a fault and allows nothing (weft l7 rulesets)")
	default:
		return printable(strings.Join(append(parts, refusedFor(r.GetDetail())), ", "))
	}
	if len(r.GetMismatch()) > 0 {
		parts = append(parts, "without the value wanted of "+strings.Join(r.GetMismatch(), ", "))
	}
	if r.GetDetail() != "" && r.GetStatus() == 0 {
		parts = append(parts, r.GetDetail())
	}
	return printable(strings.Join(parts, ", "))
}

// refusedFor says why no rule was asked; other than for a route that refuses, in the
// proxy's words.
func refusedFor(detail string) string {
	switch detail {
	case "":
		return "refused for what it is"
	case "direct_response":
		return "refused: its path has a segment that servers read in different ways"
	}
	return "refused for what it is: " + detail
}

func asked(r *agentv1.Request) string {
	if r.GetMethod() == "" {
		return "to " + orDash(r.GetHost())
	}
	return r.GetMethod() + " " + r.GetHost() + r.GetPath()
}

// answered is the status and how long it took.
func answered(f *agentv1.Flow) string {
	var out []string
	r := f.GetRequest()
	if r.GetStatus() != 0 {
		out = append(out, fmt.Sprint(r.GetStatus()))
	}
	if r.GrpcStatus != nil {
		out = append(out, fmt.Sprintf("gRPC %d", r.GetGrpcStatus()))
	}
	if f.GetAge().AsDuration() > 0 {
		out = append(out, "in "+duration(f))
	}
	return strings.Join(out, " ")
}

// Rulesets writes what the proxy enforces, a line for each rule. Nodes are as for
// Endpoints, of rulesets.
func Rulesets(w io.Writer, all []*agentv1.Ruleset, nodes []string) error {
	var rows [][]string
	var cells []string
	for i, r := range all {
		first := []string{number(r.GetNumber()), state(r), yes(r.GetReady()), yes(r.GetConnections())}
		lines := max(len(r.GetRules()), len(r.GetFaults()), 1)
		for j := range lines {
			row := append([]string(nil), first...)
			if j > 0 {
				row = []string{" ", " ", " ", " "}
			}
			rule, asks, fault := "", "", ""
			if j < len(r.GetRules()) {
				rule = names(r.GetRules()[j : j+1])
			}
			if j < len(r.GetAsks()) {
				asks = r.GetAsks()[j]
			}
			if j < len(r.GetFaults()) {
				fault = r.GetFaults()[j]
			}
			rows = append(rows, append(row, rule, asks, fault))
			if nodes != nil {
				cells = append(cells, nodes[i])
			}
		}
	}
	return nodeTable(w, []string{"RULESET", "STATE", "READY", "CONNECTIONS", "RULE", "ASKS FOR", "FAULT"}, rows, cells)
}

func state(r *agentv1.Ruleset) string {
	out := r.GetState()
	if r.GetSays() != "" {
		out += ", " + r.GetSays()
	}
	if r.GetAudit() {
		out += ", audit"
	}
	if of := r.GetPair(); len(of) == 2 {
		out += fmt.Sprintf(", %d then %d", of[0], of[1])
	}
	return out
}

// yes is a dash where it is not known.
func yes(r agentv1.Readiness) string {
	switch r {
	case agentv1.Readiness_READINESS_YES:
		return "yes"
	case agentv1.Readiness_READINESS_NO:
		return "no"
	}
	return ""
}

// ProxyConfig writes what the proxy was given.
func ProxyConfig(w io.Writer, all []*agentv1.ProxyObject, nodes []string) error {
	var rows [][]string
	for _, o := range all {
		ruleset := ""
		if o.GetRuleset() != 0 {
			ruleset = number(o.GetRuleset())
		}
		rows = append(rows, []string{o.GetType(), o.GetName(), ruleset, o.GetVersion(), o.GetStanding(), o.GetMessage()})
	}
	return nodeTable(w, []string{"TYPE", "NAME", "RULESET", "VERSION", "STANDING", "MESSAGE"}, rows, nodes)
}
