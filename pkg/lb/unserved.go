// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// Unserved is where a service is said to be called and nobody answers: Weft serves
// cluster addresses alone.
type Unserved struct {
	Address  string // with the port; * for every node
	Protocol uint8
	PortName string
	Reason   string
}

// Unserved lists those of a service: node ports, external and load balancer's addresses.
func (s *Service) Unserved() (out []Unserved) {
	add := func(p model.ServicePort, address, what string) {
		out = append(out, Unserved{Address: address, Protocol: p.Protocol, PortName: p.Name,
			Reason: what + " are not served, cluster addresses are"})
	}
	for _, p := range s.Ports {
		if p.NodePort != 0 && (s.Type == model.ServiceNodePort || s.Type == model.ServiceLoadBalancer) {
			add(p, fmt.Sprintf("*:%d", p.NodePort), "node ports")
		}
		for _, a := range s.ExternalIPs {
			add(p, netip.AddrPortFrom(a, p.Port).String(), "external addresses")
		}
		for _, a := range s.LoadBalancerIPs {
			add(p, netip.AddrPortFrom(a, p.Port).String(), "load balancers' addresses")
		}
	}
	return out
}
