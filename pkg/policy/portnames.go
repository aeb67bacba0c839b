// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// portNames knows the named ports of the peers, by identity and by name.
type portNames struct {
	of     map[model.IdentityID][]model.NamedPort
	byName map[string][]model.IdentityID // sorted; made when asked for
	round  uint64                        // last one in which anything changed
}

func (n *portNames) sync(round uint64, ports map[model.IdentityID][]model.NamedPort) {
	if maps.EqualFunc(n.of, ports, slices.Equal[[]model.NamedPort]) {
		return
	}
	// The caller's map is copied, as the next one is compared with it.
	n.of, n.byName, n.round = maps.Clone(ports), nil, round
}

// ids are the identities that have a port of the name.
func (n *portNames) ids(name string) []model.IdentityID {
	if name == "" {
		return nil
	}
	if n.byName == nil {
		n.byName = map[string][]model.IdentityID{}
		for _, id := range slices.Sorted(maps.Keys(n.of)) {
			for _, p := range n.of[id] {
				if list := n.byName[p.Name]; len(list) == 0 || list[len(list)-1] != id {
					n.byName[p.Name] = append(list, id)
				}
			}
		}
	}
	return n.byName[name]
}
