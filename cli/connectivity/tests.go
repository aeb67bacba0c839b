// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/cli/cluster"
)

// Tests are all there are, in the order in which they are done.
func Tests() []Test {
	all := []Test{
		{Name: "pod-to-pod", About: "pods reach each other on a node and between nodes, by TCP and UDP, over IPv4 and IPv6", steps: podToPod},
		{Name: "host-to-pod", About: "nodes reach their own pods and those of other nodes", steps: hostToPod},
		{Name: "pod-to-host", About: "pods reach the kubelets of their own and of other nodes", steps: podToHost},
		{Name: "service", About: "pods reach services by name and by address, single and dual stack, and a headless one by name", steps: service},
		{Name: "dns", About: "pods resolve the names of services by the cluster's DNS", steps: names},
		{Name: "api-server", About: "pods reach the API server by its service, by name and by address", steps: apiServer},
		{Name: "external", About: "pods reach an address outside the cluster (needs --external)", steps: external, skip: needsExternal},
	}
	return append(all, policyTests()...)
}

func podToPod(s *stage) []step {
	checks := s.toServers(s.client)
	checks = append(checks, s.toServers(s.guest)...)
	if s.far != nil {
		checks = append(checks, reach(s.far.caller(), s.far.Name, s.near)...)
	}
	return []step{{checks: checks}}
}

// host calls from a node's own network, in which its agent's pod is.
func (s *stage) host(n node) caller {
	return caller{namespace: s.cluster.Namespace, pod: n.agentPod, container: cluster.AgentContainer}
}

func hostToPod(s *stage) []step {
	var checks []check
	for _, n := range s.nodes {
		for _, to := range s.servers() {
			checks = append(checks, reach(s.host(n), "node "+n.name, to)...)
		}
	}
	return []step{{checks: checks}}
}

func podToHost(s *stage) []step {
	var checks []check
	for _, from := range s.servers() {
		for _, n := range s.nodes {
			for _, addr := range n.addresses {
				checks = append(checks, check{name: from.Name + " to node " + n.name, variant: variant(family(addr), "TCP"), from: from.caller(),
					probe: Probe{Kind: KindTCP, Family: family(addr), Address: hostPort(addr, int(n.kubelet)), Timeout: answerIn}})
			}
		}
	}
	return []step{{checks: checks}}
}

// callers are pods on every node.
func (s *stage) callers() []*Pod {
	if s.far == nil {
		return []*Pod{s.client}
	}
	return []*Pod{s.client, s.stranger}
}

func service(s *stage) []step {
	var served []string
	for _, p := range s.servers() {
		served = append(served, p.key())
	}
	var checks []check
	call := func(from *Pod, how, kind, host string, f int) {
		protocol := map[string]string{KindHTTP: "TCP", KindUDP: "UDP"}[kind]
		checks = append(checks, check{name: from.Name + " to " + how, variant: variant(f, protocol), from: from.caller(), answer: served,
			probe: Probe{Kind: kind, Family: f, Address: net.JoinHostPort(host, strconv.Itoa(servicePort)), Timeout: answerIn}})
	}
	for _, from := range s.callers() {
		for _, name := range []string{"echo", "echo-v4", "echo-v6"} {
			svc := s.services[name]
			if svc == nil {
				continue
			}
			for _, ip := range svc.Spec.ClusterIPs {
				addr, err := netip.ParseAddr(ip)
				if err != nil {
					continue
				}
				for _, kind := range []string{KindHTTP, KindUDP} {
					call(from, name+" by name", kind, name+"."+namespace, family(addr))
					call(from, name+" by address", kind, ip, family(addr))
				}
			}
		}
		for _, f := range s.families {
			checks = append(checks, check{name: from.Name + " to echo-headless by name", variant: variant(f, "TCP"), from: from.caller(), answer: served,
				probe: Probe{Kind: KindHTTP, Family: f, Address: net.JoinHostPort("echo-headless."+namespace, strconv.Itoa(portTCP)), Timeout: answerIn}})
		}
	}
	return []step{{checks: checks}}
}

func names(s *stage) []step {
	var checks []check
	ask := func(from *Pod, name string, want []string) {
		for _, f := range s.families {
			of := ofFamily(want, f)
			if len(of) == 0 {
				continue
			}
			checks = append(checks, check{name: from.Name + " asks for " + name, variant: variant(f, ""), from: from.caller(),
				probe: Probe{Kind: KindDNS, Family: f, Address: name, Timeout: answerIn}, answer: []string{strings.Join(of, ",")}})
		}
	}
	var headless []string
	for _, p := range s.servers() {
		for _, ip := range p.IPs {
			headless = append(headless, ip.String())
		}
	}
	for _, from := range append(s.callers(), s.guest) {
		ask(from, "echo."+namespace, s.services["echo"].Spec.ClusterIPs)
		ask(from, "echo-headless."+namespace+".svc", headless)
		ask(from, "kubernetes.default.svc", s.apiServer)
	}
	return []step{{checks: checks}}
}

// ofFamily sorts as the answer of a probe is sorted.
func ofFamily(addresses []string, f int) []string {
	var out []string
	for _, a := range addresses {
		if addr, err := netip.ParseAddr(a); err == nil && family(addr) == f {
			out = append(out, addr.String())
		}
	}
	slices.Sort(out)
	return out
}

func apiServer(s *stage) []step {
	var checks []check
	for _, from := range s.callers() {
		for _, host := range append([]string{"kubernetes.default.svc"}, s.apiServer...) {
			checks = append(checks, check{name: from.Name + " to the API server", variant: host, from: from.caller(),
				probe: Probe{Kind: KindTCP, Address: net.JoinHostPort(host, "443"), Timeout: answerIn}})
		}
	}
	return []step{{checks: checks}}
}

func needsExternal(s *stage) string {
	if s.external == "" {
		return "no --external HOST:PORT was given"
	}
	return ""
}

func external(s *stage) []step {
	return []step{{checks: s.outside()}}
}

func (s *stage) outside() []check {
	var checks []check
	for _, from := range s.callers() {
		checks = append(checks, check{name: from.Name + " to " + s.external, from: from.caller(),
			probe: Probe{Kind: KindTCP, Address: s.external, Timeout: answerIn}})
	}
	return checks
}
