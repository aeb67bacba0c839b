// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func TestHeadersThatRulesCannotHave(t *testing.T) {
	for _, c := range []struct {
		name     string
		mismatch model.Mismatch
		bad      bool
	}{
		{"x-role", model.MismatchReplace, false},
		{"a-b-c-d-e-f_g", model.MismatchDeny, false},
		{"a-b-c-d-e-f-g-h", model.MismatchDeny, true},
		{"content-length", model.MismatchDeny, false},
		{"content-length", model.MismatchLog, false},
		{"content-length", model.MismatchReplace, true},
		{"transfer-encoding", model.MismatchDelete, true},
		{"upgrade", model.MismatchAdd, true},
		{"connection", model.MismatchDelete, true},
		{"host", model.MismatchReplace, true},
		{"x-envoy-retry-on", model.MismatchDeny, true},
		{"x-weft-look", model.MismatchReplace, true},
		{"a|b", model.MismatchLog, true},
	} {
		if err := (model.HeaderMatch{Name: c.name, Value: "v", Mismatch: c.mismatch}).Fault(); (err != nil) != c.bad {
			t.Errorf("%s, mismatch %d: %v", c.name, c.mismatch, err)
		}
	}
}

func TestLookalikes(t *testing.T) {
	for name, want := range map[string][]string{
		"role":   nil,
		"x-role": {"x_role"},
		"x_role": {"x-role"},
		"a-b_c":  {"a-b-c", "a_b-c", "a_b_c"},
	} {
		got := model.Lookalikes(name)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if n := model.Spellings(name); n != 1+len(want) {
			t.Errorf("%s has %d spellings, and is like %v", name, n, want)
		}
	}
	if n := len(model.Lookalikes("a-b-c-d-e-f-g")); n != 63 {
		t.Errorf("six dashes have %d others", n)
	}
}
