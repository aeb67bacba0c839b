// SPDX-License-Identifier: Apache-2.0

package model

import "testing"

func TestEveryReasonHasItsOwnNameAndASentence(t *testing.T) {
	seen := map[string]bool{}
	for i, text := range ReasonTexts() {
		if text.Name == "" || text.Sentence == "" || seen[text.Name] {
			t.Errorf("reason %d: %+v is empty or not unique", i, text)
		}
		seen[text.Name] = true
	}
	if ReasonPolicyDeny.String() != "POLICY_DENY" || ReasonPolicyDefault.String() != "POLICY_DEFAULT" {
		t.Error("the constants do not agree with the table")
	}
	if got := Reason(200).String(); got != "REASON_200" {
		t.Errorf("a reason of newer programs is named %q", got)
	}
}
