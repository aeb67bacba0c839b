// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// Node is what the compilation needs to know of the node; it does not change
// while the agent runs.
type Node struct {
	Name         string
	Cluster      string
	Filter       identity.Filter
	ClusterCIDRs []netip.Prefix
	PodCIDRs     []netip.Prefix // of this node's pods
	Tunnel       bool           // packets reach other nodes' pods by the tunnel
	// Proxy tells that the kernel hands over to a proxy what needs one. Without it such
	// connections are refused.
	Proxy bool
}

// boundEndpoint is an endpoint together with its pod and its identity.
type boundEndpoint struct {
	model.Endpoint
	pod      model.Pod
	identity model.Identity
}

// running are the identities that the kernel has for endpoints, by their number.
type running = map[uint32]model.IdentityID

// bind finds each ready endpoint's identity. Those whose identity is not known
// yet are returned apart, with what they wait for. One that runs with another
// identity meanwhile stays bound to that, so that its policy follows what becomes
// of others; of one whose identity is not known at all, the row must stay.
func bind(identityOf identityFinder, now running, s state.Snapshot) (bound []boundEndpoint, waiting map[uint32]wait) {
	pods := make(map[model.PodKey]model.Pod, len(s.Pods))
	for _, p := range s.Pods {
		pods[p.PodKey] = p
	}
	waiting = make(map[uint32]wait)
	for _, e := range s.Endpoints {
		if e.State != model.EndpointReady {
			continue
		}
		pod, ok := pods[e.Pod]
		if !ok {
			waiting[e.ID] = wait{slot: e.Slot, reason: "pod " + e.Pod.String() + " to be known"}
			continue
		}
		id, ok := identityOf(pod)
		if !ok {
			waiting[e.ID] = wait{slot: e.Slot, allocation: true, reason: "an identity for pod " + e.Pod.String()}
			if id, ok = identityByID(s, now[e.ID]); !ok {
				continue
			}
		}
		bound = append(bound, boundEndpoint{Endpoint: e, pod: pod, identity: id})
	}
	return bound, waiting
}

func identityByID(s state.Snapshot, id model.IdentityID) (model.Identity, bool) {
	i := slices.IndexFunc(s.Identities, func(other model.Identity) bool { return other.ID == id })
	if i < 0 {
		return model.Identity{}, false
	}
	return s.Identities[i], true
}

// wait is an endpoint that cannot be compiled yet.
type wait struct {
	slot   uint16
	reason string
	// allocation tells that the pod is known and only its identity is missing:
	// intent that is not in the kernel, and will be without anyone's doing.
	allocation bool
}

// LabelsOf gives the identity-relevant labels of the snapshot's pods.
func LabelsOf(node Node, s state.Snapshot) func(model.Pod) model.Labels {
	namespaces := make(map[string]model.Namespace, len(s.Namespaces))
	for _, n := range s.Namespaces {
		namespaces[n.Name] = n
	}
	return func(p model.Pod) model.Labels {
		ns, ok := namespaces[p.Namespace]
		if !ok {
			ns = model.Namespace{
				Name:   p.Namespace,
				Labels: map[string]string{"kubernetes.io/metadata.name": p.Namespace},
			}
		}
		return identity.LabelsOf(p, ns, node.Cluster, node.Filter)
	}
}
