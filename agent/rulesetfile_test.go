// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

func TestTheFileOfRulesets(t *testing.T) {
	f := rulesetFile{path: filepath.Join(t.TempDir(), "rulesets.json")}
	if rows, pairs, err := f.Load(); err != nil || len(rows)+len(pairs) != 0 {
		t.Fatalf("without a file: %v, %v, %v", rows, pairs, err)
	}
	want := []rulesets.Row{
		{Own: model.Ruleset{ID: 7, Audit: true, Rules: []model.RulesetRule{{Policy: model.PolicyKey{Kind: "k", Namespace: "n", Name: "p"}, Name: "ingress[0].toPorts[1]",
			Direction: model.Ingress, L7: model.L7{HTTP: []model.HTTPRule{{Method: "GET", Headers: []model.HeaderMatch{{Name: "a", Value: "b", Mismatch: model.MismatchAdd}}}}}}}}},
		{Own: model.Ruleset{ID: 8, Rules: []model.RulesetRule{{L7: model.L7{ServerNames: []string{"a.b"}, Audit: true}}}}, Retired: true, As: 7, Open: true},
	}
	pairs := []rulesets.Pair{{ID: 9, First: 8, Then: 7, Retired: true}}
	if err := f.Save(want, pairs); err != nil {
		t.Fatal(err)
	}
	if got, both, err := f.Load(); err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(both, pairs) {
		t.Errorf("read back %+v, %+v, %v", got, both, err)
	}
	for text, want := range map[string]string{"{": "rulesets.json: unexpected end", `{"Version": 2}`: "is of version 2, this agent reads 1"} {
		if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
