// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// Outcome is what became of a request or connection.
type Outcome string

// Outcomes.
const (
	Allowed Outcome = "allow"
	Denied  Outcome = "deny"   // no rule allows it
	Audited Outcome = "audit"  // no rule allows it; it passed, as the policies only audit
	Open    Outcome = "open"   // the ruleset asks for nothing any more
	Odd     Outcome = "odd"    // a path that servers read in different ways
	Faulty  Outcome = "faulty" // no rule allows it; one has a fault, and might have
)

// Verdict is what decided: the name of a route, or of a chain for TLS. It travels
// through Envoy to the access log, so a log tells the rule that was in force then.
type Verdict struct {
	Outcome  Outcome
	Policy   model.PolicyKey // empty unless a rule decided
	Rule     string          // place in the policy: ingress[0].toPorts[1].http[2]
	Mismatch []string        // headers that had not the value that was wanted
}

const (
	verdictSeparator = "|"
	// withMismatch follows the outcome where there is one, so that the beginning tells.
	withMismatch = "+"
)

// String is the name that ParseVerdict understands.
func (v Verdict) String() string {
	if v.Policy == (model.PolicyKey{}) {
		return string(v.Outcome)
	}
	outcome := string(v.Outcome)
	if len(v.Mismatch) > 0 {
		outcome += withMismatch
	}
	parts := []string{outcome, v.Policy.String(), v.Rule}
	return strings.Join(append(parts, v.Mismatch...), verdictSeparator)
}

// ParseVerdict reads a name; false if none of ours.
func ParseVerdict(name string) (Verdict, bool) {
	parts := strings.Split(name, verdictSeparator)
	outcome, mismatch := strings.CutSuffix(parts[0], withMismatch)
	v := Verdict{Outcome: Outcome(outcome)}
	switch v.Outcome {
	case Allowed, Denied, Audited, Open, Odd, Faulty:
	default:
		return Verdict{}, false
	}
	if len(parts) == 1 {
		return v, !mismatch
	}
	kind, name, ok := strings.Cut(parts[1], " ")
	if !ok || len(parts) < 3 || mismatch != (len(parts) > 3) {
		return Verdict{}, false
	}
	v.Policy = model.PolicyKey{Kind: kind, Name: name}
	if namespace, short, ok := strings.Cut(name, "/"); ok {
		v.Policy.Namespace, v.Policy.Name = namespace, short
	}
	v.Rule = parts[2]
	if len(parts) > 3 {
		v.Mismatch = parts[3:]
	}
	return v, true
}
