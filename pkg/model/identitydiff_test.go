// SPDX-License-Identifier: Apache-2.0

package model

import (
	"reflect"
	"testing"
)

func TestDiffIdentities(t *testing.T) {
	id := func(n IdentityID, app string) Identity {
		return Identity{ID: n, Labels: NewLabels(Label{Source: SourceK8s, Key: "app", Value: app})}
	}
	one, two, three := id(1, "a"), id(2, "b"), id(3, "c")
	for name, c := range map[string]struct{ old, now, gone, came []Identity }{
		"the same":        {old: []Identity{one, two}, now: []Identity{one, two}},
		"equal":           {old: []Identity{one}, now: []Identity{id(1, "a")}},
		"first ones":      {now: []Identity{one, two}, came: []Identity{one, two}},
		"last ones":       {old: []Identity{one, two}, gone: []Identity{one, two}},
		"in the middle":   {old: []Identity{one, three}, now: []Identity{one, two, three}, came: []Identity{two}},
		"at the end":      {old: []Identity{one, two}, now: []Identity{one, two, three}, came: []Identity{three}},
		"one for another": {old: []Identity{one, three}, now: []Identity{two, three}, gone: []Identity{one}, came: []Identity{two}},
		"other labels":    {old: []Identity{one, two}, now: []Identity{one, id(2, "x")}, gone: []Identity{two}, came: []Identity{id(2, "x")}},
		"no labels":       {old: []Identity{{ID: 1}}, now: []Identity{one}, gone: []Identity{{ID: 1}}, came: []Identity{one}},
	} {
		gone, came := DiffIdentities(c.old, c.now)
		if len(gone)+len(c.gone) > 0 && !reflect.DeepEqual(gone, c.gone) || len(came)+len(c.came) > 0 && !reflect.DeepEqual(came, c.came) {
			t.Errorf("%s: gone %v, came %v, want %v, %v", name, gone, came, c.gone, c.came)
		}
	}
	if got := SortIdentities([]Identity{three, one, two}); !reflect.DeepEqual(got, []Identity{one, two, three}) {
		t.Errorf("sorted: %v", got)
	}
}
