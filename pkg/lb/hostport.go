// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Port is a port of the node's that a pod is to have.
type Port struct {
	model.HostPort
	Pod    model.PodKey
	Reason string // why it, or one of its addresses, does not lead to the pod; empty: all do
	fronts []portFront
}

// Served tells whether some address of the node leads to the pod.
func (p Port) Served() bool { return len(p.fronts) > 0 }

// portFront is the port at one address, with the only backend.
type portFront struct {
	model.FrontendKey
	target           netip.AddrPort
	name             string
	service, backend uint32
}

// hostPorts says what becomes of the ports that pods are to have: of several that
// claim one, the pod that was attached first keeps it. Services come before.
func (c *Compiler) hostPorts(pods []model.PortPod, addrs []netip.Addr) []Port {
	pods = slices.SortedFunc(slices.Values(pods), func(a, b model.PortPod) int { return cmp.Compare(a.Attachment, b.Attachment) })
	addrs = append(slices.Clone(addrs), netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	owners := make(map[model.FrontendKey]model.PodKey)
	var out []Port
	for _, pod := range pods {
		for _, hp := range pod.Ports {
			out = append(out, c.hostPort(pod, hp, addrs, owners))
		}
	}
	return out
}

func (c *Compiler) hostPort(pod model.PortPod, hp model.HostPort, addrs []netip.Addr, owners map[model.FrontendKey]model.PodKey) Port {
	p := Port{HostPort: hp, Pod: pod.Pod}
	if hp.Protocol == model.ProtoSCTP && hp.Port != hp.PodPort {
		p.Reason = "the port of SCTP cannot be changed: make hostPort and containerPort the same"
		return p
	}
	for _, a := range addrs {
		target := pod.IPv6
		if a.Is4() {
			target = pod.IPv4
		}
		if !meant(hp.Addr, a) || !target.IsValid() {
			continue
		}
		key := model.FrontendKey{Addr: a, Port: hp.Port, Protocol: hp.Protocol}
		if why := c.portTaken(key, owners); why != "" {
			p.Reason = cmp.Or(p.Reason, why)
			continue
		}
		owners[key] = pod.Pod
		at := netip.AddrPortFrom(target, hp.PodPort)
		p.fronts = append(p.fronts, portFront{FrontendKey: key, target: at,
			name: fmt.Sprintf("%s %s attachment %d", placeOf(hp.Protocol, at), pod.Pod, pod.Attachment)})
	}
	if len(p.fronts) == 0 && p.Reason == "" {
		p.Reason = "the node has no address for it"
		if hp.Addr.IsValid() && !hp.Addr.IsUnspecified() {
			p.Reason = fmt.Sprintf("the node does not have hostIP %s, or the pod no address of its family", hp.Addr)
		}
	}
	return p
}

// meant tells whether an address of the node is one that the pod asked for.
func meant(want, have netip.Addr) bool {
	switch {
	case !want.IsValid():
		return true
	case want.IsUnspecified():
		return want.Is4() == have.Is4()
	}
	return want == have
}

func (c *Compiler) portTaken(key model.FrontendKey, owners map[model.FrontendKey]model.PodKey) string {
	if who := c.claims[key]; len(who) > 0 {
		return fmt.Sprintf("service %s has the same address and port (%s)", who[0], key.Addr)
	}
	if pod, taken := owners[key]; taken {
		return fmt.Sprintf("pod %s had it first", pod)
	}
	return ""
}

// portNames are the names that have numbers: of a port's slot table, and of its backend.
func portNames(all []Port) map[string]bool {
	out := make(map[string]bool)
	for _, p := range all {
		for _, f := range p.fronts {
			out[f.name] = true
		}
	}
	return out
}

// portRows makes the rows of pods' ports.
func portRows(all []Port) (out rows) {
	seen := make(map[uint32]bool)
	for _, p := range all {
		for _, f := range p.fronts {
			own := f.Addr.IsLoopback()
			out.frontends = append(out.frontends, model.FrontendRow{FrontendKey: f.FrontendKey, Service: f.service,
				Slots: 1, HostPort: !own, HostOnly: own})
			if seen[f.service] {
				continue
			}
			seen[f.service] = true
			out.slots = append(out.slots, model.SlotTable{Service: f.service, Backends: []uint32{f.backend}})
			out.backends = append(out.backends, model.BackendRow{ID: f.backend, Addr: f.target.Addr(), Port: f.target.Port(),
				Protocol: f.Protocol, State: model.BackendActive})
		}
	}
	return out
}
