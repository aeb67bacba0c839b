// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func policyTests() []Test {
	return []Test{
		{Name: "deny-ingress", About: "a policy without rules lets nobody in but the node, whose probes go on; removing it lets all in again", steps: denyIngress},
		{Name: "allow-label", About: "a policy lets in pods of its namespace by their labels; weft observe names it", steps: allowLabel},
		{Name: "allow-namespace", About: "a policy lets in pods of another namespace by that one's labels", steps: allowNamespace},
		{Name: "allow-port", About: "a policy lets in one port of TCP, and neither another nor UDP", steps: allowPort},
		{Name: "deny-egress", About: "a policy without rules lets a pod call nobody", steps: denyEgress},
		{Name: "allow-egress", About: "a policy lets a pod call some pods, and DNS", steps: allowEgress},
		{Name: "allow-cidr", About: "a policy lets a pod call a range of addresses outside (needs --external with an address)", steps: allowCIDR, skip: needsExternalAddress},
		{Name: "weft-policy", About: "a WeftNetworkPolicy allows by label and port, and its deny rule goes before", steps: weftPolicies},
	}
}

// withRestore adds that the removal of a test's policies restores calls.
func withRestore(steps []step, after []check) []step {
	return append(steps, step{name: "after removal", restore: true, checks: after})
}

func denyIngress(s *stage) []step {
	checks := append(deny(s.toServers(s.client)), deny(s.toServers(s.guest))...)
	for _, n := range s.nodes { // a node reaches its own pods always
		for _, to := range s.servers() {
			if to.Node == n.name {
				checks = append(checks, reach(s.host(n), "node "+n.name, to)...)
			}
		}
	}
	checks = append(checks, reach(s.near.caller(), s.near.Name, s.client)...)
	return withRestore([]step{{objects: []metav1.Object{ingressPolicy("deny-ingress")}, checks: checks, also: stayReady}}, s.toServers(s.client))
}

func allowLabel(s *stage) []step {
	from := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{PodSelector: selectRole(roleClient)}}}
	checks := slices.Concat(s.toServers(s.client), deny(s.toServers(s.stranger)), deny(s.toServers(s.guest)))
	return withRestore([]step{{objects: []metav1.Object{ingressPolicy("allow-label", from)}, checks: checks, also: flowsAreNamed}}, s.toServers(s.stranger))
}

func allowNamespace(s *stage) []step {
	other := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace2}}
	from := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: other}}}
	checks := append(s.toServers(s.guest), deny(s.toServers(s.client))...)
	return withRestore([]step{{objects: []metav1.Object{ingressPolicy("allow-namespace", from)}, checks: checks}}, s.toServers(s.client))
}

func allowPort(s *stage) []step {
	tcp, number := corev1.ProtocolTCP, intstr.FromInt32(portTCP)
	rule := networkingv1.NetworkPolicyIngressRule{Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &number}}}
	all := s.toServers(s.client)
	http := ofKind(all, KindHTTP)
	checks := slices.Concat(http, deny(port(http, portOther)), deny(ofKind(all, KindUDP)))
	return withRestore([]step{{objects: []metav1.Object{ingressPolicy("allow-port", rule)}, checks: checks}}, append(port(http, portOther), ofKind(all, KindUDP)...))
}

func denyEgress(s *stage) []step {
	dns := check{name: "client asks for echo." + namespace + ", denied", from: s.client.caller(), unresolved: true,
		probe: Probe{Kind: KindDNS, Address: "echo." + namespace, Timeout: denyIn}}
	checks := slices.Concat(deny(s.toServers(s.client)), s.toServers(s.stranger), reach(s.stranger.caller(), s.stranger.Name, s.client), []check{dns})
	return withRestore([]step{{objects: []metav1.Object{egressPolicy("deny-egress")}, checks: checks}}, s.toServers(s.client))
}

func allowEgress(s *stage) []step {
	tcp, udp, number := corev1.ProtocolTCP, corev1.ProtocolUDP, intstr.FromInt32(53)
	rules := []networkingv1.NetworkPolicyEgressRule{
		{To: []networkingv1.NetworkPolicyPeer{{PodSelector: selectRole(roleServer)}}},
		{To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &number}, {Protocol: &tcp, Port: &number}}},
	}
	checks := slices.Concat(s.toServers(s.client), deny(reach(s.client.caller(), s.client.Name, s.stranger)), ask(s.client, s.services["echo"]))
	return withRestore([]step{{objects: []metav1.Object{egressPolicy("allow-egress", rules...)}, checks: checks}},
		reach(s.client.caller(), s.client.Name, s.stranger))
}

// ask resolves a service's name.
func ask(from *Pod, svc *corev1.Service) []check {
	return []check{{name: from.Name + " asks for " + svc.Name + "." + namespace, from: from.caller(),
		probe: Probe{Kind: KindDNS, Address: svc.Name + "." + namespace, Timeout: answerIn}}}
}

func needsExternalAddress(s *stage) string {
	if _, err := netip.ParseAddrPort(s.external); err != nil {
		return "no --external ADDRESS:PORT was given"
	}
	return ""
}

func allowCIDR(s *stage) []step {
	at := netip.MustParseAddrPort(s.external).Addr() // needsExternalAddress parsed it
	whole, err := at.Prefix(at.BitLen() / 2)
	if err != nil {
		panic(err) // half of an address's length is a length
	}
	to := func(block networkingv1.IPBlock) networkingv1.NetworkPolicyEgressRule {
		return networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &block}}}
	}
	one := netip.PrefixFrom(at, at.BitLen()).String()
	outside := s.outside()[:1] // the client's
	servers := deny(s.toServers(s.client))
	return withRestore([]step{
		{name: "allowed", objects: []metav1.Object{egressPolicy("allow-cidr", to(networkingv1.IPBlock{CIDR: one}))}, checks: append(slices.Clone(outside), servers...)},
		{name: "excepted", restore: true, objects: []metav1.Object{egressPolicy("allow-cidr-except", to(networkingv1.IPBlock{CIDR: whole.String(), Except: []string{one}}))},
			checks: append(deny(outside), servers...)},
	}, slices.Concat(outside, s.toServers(s.client)))
}

func weftPolicies(s *stage) []step {
	role := func(role string) []any {
		return []any{map[string]any{"matchLabels": map[string]any{roleLabel: role}}}
	}
	ports := []any{map[string]any{"ports": []any{map[string]any{"port": "8080", "protocol": "TCP"}}}}
	servers := map[string]any{"matchLabels": map[string]any{roleLabel: roleServer}}
	allow := weftPolicy("weft-allow", map[string]any{"endpointSelector": servers,
		"ingress": []any{map[string]any{"fromEndpoints": role(roleClient), "toPorts": ports}}})
	forbid := weftPolicy("weft-deny", map[string]any{"endpointSelector": servers,
		"ingressDeny": []any{map[string]any{"fromEndpoints": role(roleClient)}}})
	client := s.toServers(s.client)
	http := ofKind(client, KindHTTP)
	return withRestore([]step{
		{name: "allowed", objects: []metav1.Object{allow},
			checks: slices.Concat(http, deny(port(http, portOther)), deny(ofKind(client, KindUDP)), deny(s.toServers(s.stranger)))},
		{name: "deny goes before", objects: []metav1.Object{forbid}, checks: deny(client)},
	}, append(slices.Clone(client), s.toServers(s.stranger)...))
}
