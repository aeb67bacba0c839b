// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// A few kilobytes of rules must not become Envoy's whole memory, which all share.
func TestRulesThatWouldTakeTooMuchAreAFault(t *testing.T) {
	big := model.HTTPRule{}
	for i := range 20 {
		big.Headers = append(big.Headers, model.HeaderMatch{Name: fmt.Sprintf("h%d-a-b-c-d-e-f", i)})
	}
	for i := range 4 {
		big.Headers = append(big.Headers, model.HeaderMatch{Name: fmt.Sprint("l", i), Value: "v", Mismatch: model.MismatchLog})
	}
	rule := func(policy string, h ...model.HTTPRule) model.RulesetRule {
		return model.RulesetRule{Policy: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "shop", Name: policy}, Name: "ingress[0].toPorts[0]", L7: model.L7{HTTP: h}}
	}
	small := model.HTTPRule{Headers: []model.HeaderMatch{{Name: "x-role", Value: "user"}}}
	res, faults := xds.Translate(model.Rulesets{List: []model.Ruleset{
		{ID: 1, Rules: []model.RulesetRule{rule("small", small), rule("big", big), rule("great", big)}},
		{ID: 2, Rules: []model.RulesetRule{rule("small", small)}},
	}}, xds.Options{})
	if len(faults) != 2 || faults[0].Ruleset != 1 || faults[0].Policy.Name != "big" || faults[1].Policy.Name != "great" || !strings.Contains(faults[0].Text, "at most 10000") {
		t.Errorf("faults %v", faults)
	}
	for _, all := range res {
		for _, r := range all {
			if n := len(r.Body.GetValue()); n > 64<<10 {
				t.Errorf("%s has %d bytes", r.Name, n)
			}
		}
	}
}
