// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTheConditionTellsWhoRefusesWhat(t *testing.T) {
	many := make(map[string]string)
	for i := range 12 {
		many[fmt.Sprintf("n%02d", i)] = "too long"
	}
	many["n05"] = "no such header"
	apart := make(map[string]string)
	for i := range 8 {
		apart[fmt.Sprintf("n%d", i)] = fmt.Sprintf("text %d", i)
	}
	for what, c := range map[string]struct {
		fault           error
		refused         map[string]string
		status          metav1.ConditionStatus
		reason, message string
	}{
		"nobody": {nil, nil, metav1.ConditionTrue, reasonAccepted, "agents take the policy as it is"},
		"one":    {nil, map[string]string{"n1": "bad"}, metav1.ConditionFalse, reasonRefused, "proxies do not take it as it is: on n1: bad"},
		"many": {nil, many, metav1.ConditionFalse, reasonRefused,
			"proxies do not take it as it is: on n00, n01, n02, n03, n04 and 6 more: too long; on n05: no such header"},
		"each another": {nil, apart, metav1.ConditionFalse, reasonRefused, "proxies do not take it as it is: " +
			"on n0: text 0; on n1: text 1; on n2: text 2; on n3: text 3; on n4: text 4; 3 more say something else"},
		"agents, too": {errors.New("spec.egress[0]: wrong"), map[string]string{"n1": "bad"}, metav1.ConditionFalse, reasonInvalid, "spec.egress[0]: wrong"},
	} {
		if got := condition(7, c.fault, c.refused); got.Status != c.status || got.Reason != c.reason || got.Message != c.message || got.ObservedGeneration != 7 {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
