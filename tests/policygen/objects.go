// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// FromObjects are the policies of up to five objects of all kinds, each of them
// as its converter reads it.
func FromObjects(t *rapid.T) []model.Policy {
	var out []model.Policy
	for i := range Pick(t, "objects", 0, 1, 2, 3, 4, 5, 6) {
		meta := metav1.ObjectMeta{Namespace: Pick(t, "namespace", "x", "y"), Name: fmt.Sprint("o", i)}
		var policies []model.Policy
		var err error
		switch Pick(t, "kind", "net", "weft", "cluster") {
		case "net":
			var p model.Policy
			p, err = netpol.FromNetworkPolicy(networkPolicy(t, meta))
			policies = append(policies, p)
		case "weft":
			obj := &v1alpha1.WeftNetworkPolicy{ObjectMeta: meta}
			obj.Spec, obj.Specs = specs(t)
			policies, err = v1alpha1.FromWeftNetworkPolicy(obj)
		case "cluster":
			meta.Namespace = ""
			obj := &v1alpha1.WeftClusterNetworkPolicy{ObjectMeta: meta}
			obj.Spec, obj.Specs = specs(t)
			policies, err = v1alpha1.FromWeftClusterNetworkPolicy(obj)
		}
		if err != nil {
			t.Fatalf("an object that is right was refused: %v", err)
		}
		out = append(out, policies...)
	}
	return out
}

// labelSelector asks for labels that pods have, by the keys prefix + key.
func labelSelector(t *rapid.T, prefix string, keys ...string) metav1.LabelSelector {
	var s metav1.LabelSelector
	for range Pick(t, "requirements", 0, 0, 1, 2) {
		bare := Pick(t, "key", keys...)
		key, values := prefix+bare, values(t, bare)
		switch op := Pick(t, "op", "", metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist); op {
		case "":
			s.MatchLabels = map[string]string{key: values[0]}
		case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op})
		default:
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: values})
		}
	}
	return s
}

func networkPolicy(t *rapid.T, meta metav1.ObjectMeta) *networkingv1.NetworkPolicy {
	obj := &networkingv1.NetworkPolicy{ObjectMeta: meta}
	obj.Spec.PodSelector = labelSelector(t, "", "app", "tier")
	obj.Spec.PolicyTypes = Pick(t, "types", nil, []networkingv1.PolicyType{"Ingress"},
		[]networkingv1.PolicyType{"Egress"}, []networkingv1.PolicyType{"Egress", "Ingress"})
	for range Pick(t, "ingress", 0, 1, 2) {
		obj.Spec.Ingress = append(obj.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: netPeers(t), Ports: netPorts(t)})
	}
	for range Pick(t, "egress", 0, 1, 2) {
		obj.Spec.Egress = append(obj.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: netPeers(t), Ports: netPorts(t)})
	}
	return obj
}

func netPeers(t *rapid.T) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for range Pick(t, "peers", 0, 1, 2) {
		var p networkingv1.NetworkPolicyPeer
		pods, spaces := labelSelector(t, "", "app", "tier"), labelSelector(t, "", "team")
		switch Pick(t, "peer", "pods", "namespaces", "both", "block") {
		case "pods":
			p.PodSelector = &pods
		case "namespaces":
			p.NamespaceSelector = &spaces
		case "both":
			p.PodSelector, p.NamespaceSelector = &pods, &spaces
		default:
			outer, except := cidr(t)
			p.IPBlock = &networkingv1.IPBlock{CIDR: outer.String(), Except: texts[string](except)}
		}
		out = append(out, p)
	}
	return out
}

func texts[S ~string](prefixes []netip.Prefix) []S {
	var out []S
	for _, p := range prefixes {
		out = append(out, S(p.String()))
	}
	return out
}

func netPorts(t *rapid.T) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for range Pick(t, "ports", 0, 1, 2) {
		var p networkingv1.NetworkPolicyPort
		if proto := Pick(t, "protocol", "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP); proto != "" {
			p.Protocol = &proto
		}
		var port intstr.IntOrString
		switch Pick(t, "port", "all", "name", "range") {
		case "name":
			port = intstr.FromString(Pick(t, "portname", "dns", "http", "none"))
			p.Port = &port
		case "range":
			first, last := portRange(t)
			port = intstr.FromInt32(int32(max(first, 1)))
			p.Port = &port
			if end := int32(last); end > int32(first) {
				p.EndPort = &end
			}
		}
		out = append(out, p)
	}
	return out
}

// specs are one spec, or two in a list.
func specs(t *rapid.T) (*v1alpha1.PolicySpec, []v1alpha1.PolicySpec) {
	one := spec(t)
	if rapid.Bool().Draw(t, "single") {
		return &one, nil
	}
	return nil, []v1alpha1.PolicySpec{one, spec(t)}
}

func spec(t *rapid.T) v1alpha1.PolicySpec {
	subject := labelSelector(t, Pick(t, "source", "", "any:", "k8s:"), "app", "tier")
	s := v1alpha1.PolicySpec{EndpointSelector: &subject, Ingress: []v1alpha1.IngressRule{}}
	s.EnableDefaultDeny.Ingress = Pick(t, "deny in", nil, nil, new(bool), yes())
	s.EnableDefaultDeny.Egress = Pick(t, "deny out", nil, nil, new(bool), yes())
	for range Pick(t, "ingress", 0, 1, 2) {
		ports, icmps := rulePorts(t)
		s.Ingress = append(s.Ingress, v1alpha1.IngressRule{IngressPeers: ingressPeers(t), ToPorts: allowed(t, ports), ICMPs: icmps})
	}
	for range Pick(t, "ingressDeny", 0, 1) {
		ports, icmps := rulePorts(t)
		s.IngressDeny = append(s.IngressDeny, v1alpha1.IngressDenyRule{IngressPeers: ingressPeers(t), ToPorts: ports, ICMPs: icmps})
	}
	for range Pick(t, "egress", 0, 1, 2) {
		ports, icmps := rulePorts(t)
		s.Egress = append(s.Egress, v1alpha1.EgressRule{EgressPeers: egressPeers(t), ToPorts: allowed(t, ports), ICMPs: icmps})
	}
	for range Pick(t, "egressDeny", 0, 1) {
		ports, icmps := rulePorts(t)
		s.EgressDeny = append(s.EgressDeny, v1alpha1.EgressDenyRule{EgressPeers: egressPeers(t), ToPorts: ports, ICMPs: icmps})
	}
	return s
}

func yes() *bool {
	v := true
	return &v
}

func egressPeers(t *rapid.T) v1alpha1.EgressPeers {
	in := ingressPeers(t)
	return v1alpha1.EgressPeers{ToEndpoints: in.FromEndpoints, ToEntities: in.FromEntities, ToCIDR: in.FromCIDR, ToCIDRSet: in.FromCIDRSet}
}

func ingressPeers(t *rapid.T) v1alpha1.IngressPeers {
	var out v1alpha1.IngressPeers
	switch Pick(t, "peers", "none", "nobody", "endpoints", "endpoints", "namespace", "entities", "cidr", "cidrSet") {
	case "nobody":
		out.FromEndpoints = []metav1.LabelSelector{}
	case "endpoints":
		out.FromEndpoints = []metav1.LabelSelector{labelSelector(t, Pick(t, "source", "", "k8s:"), "app", "tier")}
	case "namespace":
		key := Pick(t, "by", "k8s:"+model.LabelNamespace, model.LabelNamespacePrefix+"team")
		out.FromEndpoints = []metav1.LabelSelector{{MatchLabels: map[string]string{key: Pick(t, "ns", "x", "y", "of-x", "of-y")}}}
	case "entities":
		out.FromEntities = []v1alpha1.Entity{v1alpha1.Entity(entityName(t)), v1alpha1.Entity(entityName(t))}
	case "cidr":
		outer, _ := cidr(t)
		out.FromCIDR = texts[v1alpha1.CIDR]([]netip.Prefix{outer})
	case "cidrSet":
		outer, except := cidr(t)
		out.FromCIDRSet = []v1alpha1.CIDRRule{{CIDR: v1alpha1.CIDR(outer.String()), Except: texts[v1alpha1.CIDR](except)}}
	}
	return out
}

// allowed are the same ports in a rule that allows them, and now and then one of TCP
// with rules about requests.
func allowed(t *rapid.T, in []v1alpha1.PortDenyRule) []v1alpha1.PortRule {
	var out []v1alpha1.PortRule
	for _, r := range in {
		out = append(out, v1alpha1.PortRule{Ports: r.Ports})
	}
	if len(in) == 0 || Pick(t, "more", true, false) {
		return out
	}
	first, last := portRange(t)
	tcp := v1alpha1.PortProtocol{Protocol: "TCP", Port: strconv.Itoa(int(first))}
	if first > 0 && last > first {
		tcp.EndPort = int32(last)
	}
	item := v1alpha1.PortRule{Ports: []v1alpha1.PortProtocol{tcp}}
	switch Pick(t, "requests", "http", "grpc", "names") {
	case "http":
		item.Rules = &v1alpha1.L7Rules{HTTP: []v1alpha1.HTTPRule{{Path: Pick(t, "path", "", "/a", "/b/.*")}}}
	case "grpc":
		item.Rules = &v1alpha1.L7Rules{GRPC: []v1alpha1.GRPCRule{{Service: Pick(t, "service", "", "a.B")}}}
	default:
		item.ServerNames = []string{Pick(t, "server", "a.b", "*.b")}
	}
	return append(out, item)
}

// rulePorts are ports, types of ICMP, or neither.
func rulePorts(t *rapid.T) ([]v1alpha1.PortDenyRule, []v1alpha1.ICMPRule) {
	switch Pick(t, "ports", "none", "ports", "ports", "icmp") {
	case "none":
		return nil, nil
	case "icmp":
		family, types := "IPv4", []int32{0, 8, 13}
		if rapid.Bool().Draw(t, "v6") {
			family, types = "IPv6", []int32{128, 129, 160}
		}
		typ := intstr.FromInt32(Pick(t, "type", types...))
		return nil, []v1alpha1.ICMPRule{{Fields: []v1alpha1.ICMPField{{Family: family, Type: &typ}}}}
	}
	var list []v1alpha1.PortProtocol
	for range rapid.IntRange(1, 2).Draw(t, "n") {
		p := v1alpha1.PortProtocol{Protocol: Pick(t, "protocol", "", "ANY", "TCP", "UDP", "SCTP", "VRRP")}
		switch {
		case p.Protocol == "VRRP":
			p.Port = "0"
		case rapid.Bool().Draw(t, "name"):
			p.Port = Pick(t, "portname", "dns", "http", "none")
		default:
			first, last := portRange(t)
			p.Port = strconv.Itoa(int(first))
			if first > 0 && last > first {
				p.EndPort = int32(last)
			}
		}
		list = append(list, p)
	}
	return []v1alpha1.PortDenyRule{{Ports: list}}, nil
}
