// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// portPods are the pods of this node that are to have ports of the node's, each with
// its newest attachment: while a sandbox is made anew a pod has two.
func portPods(s state.Snapshot) []model.PortPod {
	ports := make(map[model.PodKey][]model.HostPort)
	for _, p := range s.Pods {
		if len(p.HostPorts) > 0 && !p.HostNetwork {
			ports[p.PodKey] = p.HostPorts
		}
	}
	if len(ports) == 0 {
		return nil
	}
	newest := make(map[model.PodKey]model.Endpoint, len(ports))
	for _, e := range s.Endpoints {
		if old, had := newest[e.Pod]; e.State == model.EndpointReady && len(ports[e.Pod]) > 0 && (!had || old.ID < e.ID) {
			newest[e.Pod] = e
		}
	}
	out := make([]model.PortPod, 0, len(newest))
	for key, e := range newest {
		out = append(out, model.PortPod{Pod: key, Attachment: e.ID, IPv4: e.IPv4, IPv6: e.IPv6, Ports: ports[key]})
	}
	return out
}

// warnPorts logs which ports of the node do not lead to their pods when they first
// do not.
func (e *Engine) warnPorts(before, now []lb.Port) {
	for _, p := range now {
		known := slices.ContainsFunc(before, func(q lb.Port) bool {
			return q.Pod == p.Pod && q.HostPort == p.HostPort && q.Reason == p.Reason
		})
		if p.Reason != "" && !known {
			e.cfg.Log.Warn("a port of the node does not lead to the pod that asks for it", "pod", p.Pod.String(), "hostPort", p.Port, "reason", p.Reason)
		}
	}
}
