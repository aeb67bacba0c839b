// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

func TestRulesetLinksAreAllThatTheKernelHas(t *testing.T) {
	d := open(t, Config{})
	ids := func(of ...model.RulesetID) map[model.RulesetID]model.RulesetID {
		return map[model.RulesetID]model.RulesetID{of[0]: of[1]}
	}
	type rows map[uint32]weftbpf.BpfWeftRulesetRow
	type both map[weftbpf.BpfWeftBothKey]uint32
	for i, step := range []struct {
		links model.RulesetLinks
		rows  rows
		both  both
	}{
		{model.RulesetLinks{As: ids(3, 4), Before: ids(model.MaxRulesets, 5)}, rows{3: {As: 4}, model.MaxRulesets: {Before: 5}}, both{}},
		{model.RulesetLinks{As: ids(3, 4), Pairs: map[model.RulesetID]model.RulesetPair{7: {First: 3, Then: 9}}}, rows{3: {As: 4}, 7: {First: 3, Then: 9}}, both{}},
		{model.RulesetLinks{Pairs: map[model.RulesetID]model.RulesetPair{7: {First: 3, Then: 9, Begin: true}, 8: {First: 9, Then: 3, Begin: true}}},
			rows{7: {First: 3, Then: 9}, 8: {First: 9, Then: 3}}, both{{First: 3, Then: 9}: 7, {First: 9, Then: 3}: 8}},
		{model.RulesetLinks{Pairs: map[model.RulesetID]model.RulesetPair{7: {First: 3, Then: 9}, 6: {First: 9, Then: 3, Begin: true}}},
			rows{7: {First: 3, Then: 9}, 6: {First: 9, Then: 3}}, both{{First: 9, Then: 3}: 6}},
		{model.RulesetLinks{}, rows{}, both{}},
	} {
		for range 2 { // the same again changes nothing
			must(t, d.SetRulesetLinks(step.links))
			gotRows, gotBoth := rows{}, both{}
			must(t, dump(d.maps.WeftRuleset, func(id uint32, row weftbpf.BpfWeftRulesetRow) error {
				if row != (weftbpf.BpfWeftRulesetRow{}) {
					gotRows[id] = row
				}
				return nil
			}))
			must(t, dump(d.maps.WeftBoth, func(key weftbpf.BpfWeftBothKey, id uint32) error { gotBoth[key] = id; return nil }))
			if !maps.Equal(gotRows, step.rows) || !maps.Equal(gotBoth, step.both) {
				t.Errorf("step %d: rows %v and pairs %v, want %v and %v", i, gotRows, gotBoth, step.rows, step.both)
			}
		}
	}
}
