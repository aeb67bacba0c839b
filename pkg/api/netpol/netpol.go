// SPDX-License-Identifier: Apache-2.0

// Package netpol converts the NetworkPolicy of Kubernetes into the domain model.
package netpol

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Kind is the kind in keys of policies that come from here.
const Kind = "NetworkPolicy"

// FromNetworkPolicy converts an object. On an error, which names each faulty
// field, nothing is returned: a policy is applied whole or not at all.
func FromNetworkPolicy(obj *networkingv1.NetworkPolicy) (model.Policy, error) {
	c := converter{namespace: obj.Namespace}
	if c.namespace == "" {
		c.namespace = metav1.NamespaceDefault
	}
	out := model.Policy{Key: model.PolicyKey{Kind: Kind, Namespace: c.namespace, Name: obj.Name}}
	if obj.Name == "" {
		c.add("metadata.name", "is missing; give the policy a name")
	}
	out.Subject = v1alpha1.NewSelector(append(c.requirements("spec.podSelector", &obj.Spec.PodSelector, podKey), c.ownNamespace()))
	out.Isolate = c.directions(obj)
	for i, r := range obj.Spec.Ingress {
		name := fmt.Sprintf("ingress[%d]", i)
		rule := c.rule("spec."+name, "from", r.From, r.Ports)
		rule.Direction, rule.Name = model.Ingress, name
		if out.Isolate[model.Ingress] {
			out.Rules = append(out.Rules, rule)
		}
	}
	for i, r := range obj.Spec.Egress {
		name := fmt.Sprintf("egress[%d]", i)
		rule := c.rule("spec."+name, "to", r.To, r.Ports)
		rule.Direction, rule.Name = model.Egress, name
		if out.Isolate[model.Egress] {
			out.Rules = append(out.Rules, rule)
		}
	}
	if err := c.err(); err != nil {
		return model.Policy{}, err
	}
	return out, nil
}

// converter collects what is wrong as lines that begin with the field's path.
type converter struct {
	namespace string
	found     []string
}

func (c *converter) add(path, format string, args ...any) {
	c.found = append(c.found, path+": "+fmt.Sprintf(format, args...))
}

func (c *converter) err() error {
	slices.Sort(c.found)
	var errs []error
	for _, line := range slices.Compact(c.found) {
		errs = append(errs, errors.New(line))
	}
	return errors.Join(errs...)
}

// directions are those that the policy isolates. Without policyTypes that is
// ingress, and egress if there are egress rules.
func (c *converter) directions(obj *networkingv1.NetworkPolicy) [2]bool {
	var out [2]bool
	if len(obj.Spec.PolicyTypes) == 0 {
		out[model.Ingress], out[model.Egress] = true, len(obj.Spec.Egress) > 0
		return out
	}
	for i, t := range obj.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			out[model.Ingress] = true
		case networkingv1.PolicyTypeEgress:
			out[model.Egress] = true
		default:
			c.add(fmt.Sprintf("spec.policyTypes[%d]", i), "type %q is unknown; use Ingress or Egress", t)
		}
	}
	return out
}

// rule converts one rule; without peers it means everybody, without ports every
// protocol and port.
func (c *converter) rule(path, field string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) model.Rule {
	out := model.Rule{Action: model.ActionAllow}
	if len(peers) == 0 {
		out.Peers = []model.Peer{{Any: true}}
	}
	for i := range peers {
		if p, ok := c.peer(fmt.Sprintf("%s.%s[%d]", path, field, i), &peers[i]); ok {
			out.Peers = append(out.Peers, p)
		}
	}
	for i := range ports {
		if r, ok := c.port(fmt.Sprintf("%s.ports[%d]", path, i), &ports[i]); ok {
			out.Ports = append(out.Ports, r)
		}
	}
	return out
}

func (c *converter) peer(path string, in *networkingv1.NetworkPolicyPeer) (model.Peer, bool) {
	if in.IPBlock != nil {
		if in.PodSelector != nil || in.NamespaceSelector != nil {
			c.add(path, "combines ipBlock with a selector; write a peer for each")
			return model.Peer{}, false
		}
		return c.ipBlock(path+".ipBlock", in.IPBlock)
	}
	if in.PodSelector == nil && in.NamespaceSelector == nil {
		c.add(path, "is empty; set podSelector, namespaceSelector or ipBlock")
		return model.Peer{}, false
	}
	var reqs []model.Requirement
	if in.PodSelector != nil {
		reqs = c.requirements(path+".podSelector", in.PodSelector, podKey)
	}
	if in.NamespaceSelector != nil {
		reqs = append(reqs, c.requirements(path+".namespaceSelector", in.NamespaceSelector, namespaceKey)...)
	} else {
		reqs = append(reqs, c.ownNamespace())
	}
	sel := v1alpha1.NewSelector(reqs)
	return model.Peer{Selector: &sel}, true
}

func (c *converter) ipBlock(path string, in *networkingv1.IPBlock) (model.Peer, bool) {
	pre, err := v1alpha1.ParseCIDR(in.CIDR, false)
	if err != nil {
		c.add(path+".cidr", "%v", err)
		return model.Peer{}, false
	}
	out := model.Peer{CIDR: pre}
	for i, s := range in.Except {
		at := fmt.Sprintf("%s.except[%d]", path, i)
		ex, err := v1alpha1.ParseCIDR(s, false)
		switch {
		case err != nil:
			c.add(at, "%v", err)
		case ex.Bits() < pre.Bits() || !pre.Contains(ex.Addr()):
			c.add(at, "%s is not inside %s; name a prefix that is, or remove it", s, in.CIDR)
		default:
			out.Except = append(out.Except, ex)
		}
	}
	return out, true
}

func (c *converter) port(path string, in *networkingv1.NetworkPolicyPort) (model.PortRange, bool) {
	proto := model.ProtoTCP
	if in.Protocol != nil {
		switch *in.Protocol {
		case corev1.ProtocolTCP:
		case corev1.ProtocolUDP:
			proto = model.ProtoUDP
		case corev1.ProtocolSCTP:
			proto = model.ProtoSCTP
		default:
			c.add(path+".protocol", "protocol %q is unknown; use TCP, UDP or SCTP", *in.Protocol)
			return model.PortRange{}, false
		}
	}
	if in.Port == nil {
		if in.EndPort != nil {
			c.add(path+".endPort", "needs a port")
			return model.PortRange{}, false
		}
		return model.PortRange{Protocol: proto, Last: 65535}, true
	}
	var end int32
	if in.EndPort != nil {
		if end = *in.EndPort; end < 1 {
			c.add(path+".endPort", "%d is not a port; write one from 1 to 65535", end)
			return model.PortRange{}, false
		}
	}
	text := in.Port.String()
	if text == "0" {
		c.add(path+".port", "0 is not a port; leave port out to mean every port")
		return model.PortRange{}, false
	}
	if _, err := strconv.Atoi(text); err == nil && in.Port.Type == intstr.String {
		c.add(path+".port", "%q is a number in quotes; remove the quotes", text)
		return model.PortRange{}, false
	}
	r, err := v1alpha1.ParsePort(text, end)
	if err != nil {
		c.add(path, "%v", err)
		return model.PortRange{}, false
	}
	r.Protocol = proto
	return r, true
}

// ownNamespace is the requirement that binds a selector to the policy's
// namespace.
func (c *converter) ownNamespace() model.Requirement {
	return model.Requirement{Source: model.SourceK8s, Key: model.LabelNamespace, Operator: model.OpIn, Values: []string{c.namespace}}
}

func (c *converter) requirements(path string, in *metav1.LabelSelector, split func(string) (string, string, error)) []model.Requirement {
	out, found := v1alpha1.Requirements(path, in, split)
	c.found = append(c.found, found...)
	return out
}

// podKey is where a pod's label is found.
func podKey(key string) (string, string, error) { return model.SourceK8s, key, nil }

// namespaceKey is where a label of a pod's namespace is found.
func namespaceKey(key string) (string, string, error) {
	if key == "" {
		return model.SourceK8s, "", nil
	}
	return model.SourceK8s, model.LabelNamespacePrefix + key, nil
}
