// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func labelled(app int) model.Labels {
	return model.NewLabels(model.Label{Source: model.SourceK8s, Key: "app", Value: strconv.Itoa(app)})
}

// What is found depends on the newest list alone, not on those before.
func TestTheIndexOfIdentitiesFollowsTheList(t *testing.T) {
	const numbers, apps = 40, 25 // so that some have the same labels
	random := rand.New(rand.NewPCG(1, 2))
	x := newIdentityIndex()
	var list []model.Identity
	for round := range 500 {
		next := []model.Identity{}
		for n := range numbers {
			have, found := slices.BinarySearchFunc(list, model.IdentityID(n), func(i model.Identity, n model.IdentityID) int { return int(i.ID) - int(n) })
			switch pick := random.IntN(10); {
			case pick < 6 && found:
				next = append(next, list[have])
			case pick < 8:
				next = append(next, model.Identity{ID: model.IdentityID(n), Labels: labelled(random.IntN(apps))})
			}
		}
		list = next
		x.follow(list)
		for app := range apps {
			want, known := model.Identity{}, false
			for _, id := range list {
				if slices.Equal(id.Labels, labelled(app)) {
					want, known = id, true
				}
			}
			if got, ok := x.find(labelled(app)); ok != known || got.ID != want.ID {
				t.Fatalf("round %d: app %d has %d, %v, want %d, %v", round, app, got.ID, ok, want.ID, known)
			}
		}
	}
	x.follow(nil)
	if len(x.same) != 0 {
		t.Errorf("without identities there are still %v", x.same)
	}
}
