// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weftmesh/weft/pkg/model"
)

// maxConditional is how many headers of a rule may have a mismatch action that
// depends on what the request has: each doubles the routes of the rule.
const maxConditional = 4

// sifted is a ruleset, and which of its rules have a fault.
type sifted struct {
	model.Ruleset
	faulty []bool // of the rules, in their order
}

// lacks tells whether rules have a fault.
func (s sifted) lacks() bool { return slices.Contains(s.faulty, true) }

// sound are the rules without one.
func (s sifted) sound() (out []model.RulesetRule) {
	for i, r := range s.Rules {
		if !s.faulty[i] {
			out = append(out, r)
		}
	}
	return out
}

func sift(rs model.Ruleset, faults []Fault) sifted {
	out := sifted{Ruleset: rs, faulty: make([]bool, len(rs.Rules))}
	for i, r := range rs.Rules {
		out.faulty[i] = slices.ContainsFunc(faults, func(f Fault) bool { return f.Policy == r.Policy && f.Rule == r.Name })
	}
	return out
}

// check gives a fault for each rule that cannot be said in Envoy's words.
func check(rs model.Ruleset) (faults []Fault) {
	for _, r := range rs.Rules {
		if err := checkRule(r.L7); err != nil {
			faults = append(faults, Fault{Ruleset: rs.ID, Policy: r.Policy, Rule: r.Name, Text: err.Error()})
		}
	}
	return append(faults, tooMuch(sift(rs, faults))...)
}

// maxMatchers bounds what a ruleset's headers become: some 250 bytes each in each of
// Envoy's threads.
const maxMatchers = 10_000

// tooMuch gives faults to the rules that need most, as long as all others together
// need too much.
func tooMuch(rs sifted) (faults []Fault) {
	all, sound := 0, rs.sound()
	needs := make([]int, len(sound))
	for i, r := range sound {
		for _, h := range r.L7.HTTP {
			needs[i] += matchers(h)
		}
		all += needs[i]
	}
	for all > maxMatchers {
		most := 0
		for i := range needs {
			if needs[i] > needs[most] {
				most = i
			}
		}
		of := sound[most]
		faults = append(faults, Fault{Ruleset: rs.ID, Policy: of.Policy, Rule: of.Name, Text: fmt.Sprintf(
			"the headers asked for need %d comparisons, of %d in all, of at most %d: ask for fewer headers, with fewer dashes in their names, or with fewer mismatch actions",
			needs[most], all, maxMatchers)})
		all, needs[most] = all-needs[most], 0
	}
	return faults
}

// matchers are how many comparisons of headers, and removals, a rule's routes have.
func matchers(h model.HTTPRule) int {
	routes, each := 1, 0
	for _, m := range h.Headers {
		each += model.Spellings(m.Name)
		if isConditional(m) && routes < 1<<maxConditional {
			routes *= 2
		}
	}
	return routes * each
}

func checkRule(l7 model.L7) error {
	var errs []error
	for i, h := range l7.HTTP {
		if err := checkHTTP(h); err != nil {
			errs = append(errs, fmt.Errorf("http[%d]: %w", i, err))
		}
	}
	for i, g := range l7.GRPC {
		if strings.ContainsAny(g.Service+g.Method, "/? #%") || !utf8.ValidString(g.Service+g.Method) {
			errs = append(errs, fmt.Errorf("grpc[%d]: %q and %q must be names alone", i, g.Service, g.Method))
		}
	}
	for i, n := range l7.ServerNames {
		if !serverName.MatchString(n) {
			errs = append(errs, fmt.Errorf("serverNames[%d]: %q %w", i, n, errServerName))
		}
	}
	return errors.Join(errs...)
}

func checkHTTP(h model.HTTPRule) error {
	var errs []error
	if err := checkExpressions(h); err != nil {
		errs = append(errs, err)
	}
	conditional := 0
	for _, m := range h.Headers {
		if err := checkHeader(m); err != nil {
			errs = append(errs, err)
		}
		if isConditional(m) {
			conditional++
		}
	}
	if conditional > maxConditional {
		errs = append(errs, fmt.Errorf("%d headers have the mismatch actions LOG, ADD or DELETE, of at most %d", conditional, maxConditional))
	}
	return joinSorted(errs)
}

func checkExpressions(h model.HTTPRule) error {
	var errs []error
	for what, expr := range map[string]string{"method": h.Method, "path": h.Path, "host": h.Host} {
		if err := checkExpression(what, expr); err != nil {
			errs = append(errs, err)
		}
	}
	return joinSorted(errs)
}

func checkHeader(m model.HeaderMatch) error {
	if !token.MatchString(m.Name) {
		return fmt.Errorf("header %q is not a header's name in lower case", m.Name)
	}
	if strings.ContainsAny(m.Value, "\r\n\x00") || !utf8.ValidString(m.Value) {
		return fmt.Errorf("header %s: the value has characters that headers cannot have", m.Name)
	}
	if err := m.Fault(); err != nil {
		return fmt.Errorf("header %s %w", m.Name, err)
	}
	if m.Value == "" && (m.Mismatch == model.MismatchAdd || m.Mismatch == model.MismatchReplace) {
		return fmt.Errorf("header %s: there is no value to be set", m.Name)
	}
	return nil
}
