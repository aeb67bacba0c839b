// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// unmanaged are the pods of this node that run without being attached, as they began
// before Weft was there. Whose addresses are somebody else's has none.
func unmanaged(s state.Snapshot) (out []model.NodeEndpoint) {
	var attached map[model.PodKey]bool
	for _, p := range s.Pods {
		if len(p.Addrs) == 0 || p.HostNetwork {
			continue
		}
		if attached == nil {
			attached = make(map[model.PodKey]bool, len(s.Endpoints))
			for _, e := range s.Endpoints {
				attached[e.Pod] = true
			}
		}
		if attached[p.PodKey] {
			continue
		}
		ep := model.NodeEndpoint{Pod: p.PodKey, Identity: model.IdentityUnmanaged, Ports: p.Ports, Workload: p.Workload}
		for _, a := range p.Addrs {
			if a.Is4() {
				ep.IPv4 = a
			} else {
				ep.IPv6 = a
			}
		}
		out = append(out, ep)
	}
	return out
}
