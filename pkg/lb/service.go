// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// notOurs tells why a service has no front end at all, or is empty.
func notOurs(s model.Service) string {
	switch {
	case s.Type == model.ServiceExternalName:
		return "it is of type ExternalName, a DNS alias"
	case len(s.ClusterIPs) == 0:
		return "it has no cluster address (headless, or none given yet)"
	case len(s.Ports) == 0:
		return "it has no port"
	}
	return ""
}

// reasonOf is that of the first front end, if none is served.
func reasonOf(all []Frontend) string {
	for _, f := range all {
		if f.Reason == "" {
			return ""
		}
	}
	return all[0].Reason
}

// frontends lists the addresses of a service with each of its ports.
func frontends(s model.Service, from []model.EndpointSlice, node string) []Frontend {
	var out []Frontend
	for _, addr := range s.ClusterIPs {
		for _, p := range s.Ports {
			f := Frontend{
				FrontendKey: model.FrontendKey{Addr: addr, Port: p.Port, Protocol: p.Protocol},
				PortName:    p.Name, Algorithm: Random,
			}
			if s.Affinity > 0 {
				f.Algorithm = Table
			}
			if p.Protocol != model.ProtoTCP && p.Protocol != model.ProtoUDP {
				f.Reason = "only TCP and UDP are balanced"
			} else {
				f.Backends = backends(s, p, addr.Is4(), from, node)
				f.Reason = unserved(s, from, f)
			}
			out = append(out, f)
		}
	}
	return out
}

func unserved(s model.Service, from []model.EndpointSlice, f Frontend) string {
	family := "IPv6"
	if f.Addr.Is4() {
		family = "IPv4"
	}
	switch {
	case f.Active() > 0:
		return ""
	case len(from) == 0:
		return "no EndpointSlice names it (label kubernetes.io/service-name)"
	case len(f.Backends) == 0 && s.InternalLocal:
		return fmt.Sprintf("no %s endpoint of this port is on this node, and internalTrafficPolicy is Local", family)
	case len(f.Backends) == 0:
		return fmt.Sprintf("its EndpointSlices have no %s endpoint for this port", family)
	}
	return fmt.Sprintf("none of its %d %s endpoints is ready", len(f.Backends), family)
}

// backends gathers those of one port and family from all slices, by address.
// A slice names a port as the service does, with the number that a named target
// port stands for. One that several slices have counts by its best state.
func backends(s model.Service, p model.ServicePort, v4 bool, from []model.EndpointSlice, node string) []Backend {
	found := make(map[netip.AddrPort]Backend)
	for _, slice := range from {
		for _, port := range slice.Ports {
			if port.Name != p.Name || port.Protocol != p.Protocol {
				continue
			}
			for _, b := range slice.Backends {
				if b.Addr.Is4() != v4 || s.InternalLocal && b.NodeName != node {
					continue
				}
				at := netip.AddrPortFrom(b.Addr, port.Port)
				state := stateOf(s, b)
				if old, ok := found[at]; !ok || rank(state) < rank(old.State) {
					found[at] = Backend{Addr: at, State: state, Pod: b.Pod, Node: b.NodeName}
				}
			}
		}
	}
	out := make([]Backend, 0, len(found))
	for _, b := range found {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
	return out
}

func stateOf(s model.Service, b model.Backend) State {
	switch {
	case s.PublishNotReady, b.Ready && !b.Terminating:
		return Ready
	case b.Terminating && (b.Serving || b.Ready):
		return Terminating
	}
	return NotReady
}

func rank(s State) int { return slices.Index([]State{Ready, Terminating, NotReady}, s) }
