// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	"github.com/weftmesh/weft/pkg/model"
)

// FromWeftNetworkPolicy converts an object into one policy for each of its
// specs: spec first, then specs. On an error nothing is returned: a policy is
// applied whole or not at all.
func FromWeftNetworkPolicy(obj *WeftNetworkPolicy) ([]model.Policy, error) {
	key := model.PolicyKey{Kind: KindNetworkPolicy, Namespace: obj.Namespace, Name: obj.Name}
	if key.Namespace == "" {
		key.Namespace = "default"
	}
	return convert(key, obj.Spec, obj.Specs)
}

// FromWeftClusterNetworkPolicy is FromWeftNetworkPolicy for the kind that is
// not bound to a namespace.
func FromWeftClusterNetworkPolicy(obj *WeftClusterNetworkPolicy) ([]model.Policy, error) {
	return convert(model.PolicyKey{Kind: KindClusterNetworkPolicy, Name: obj.Name}, obj.Spec, obj.Specs)
}

func convert(key model.PolicyKey, spec *PolicySpec, specs []PolicySpec) ([]model.Policy, error) {
	p := &problems{}
	var out []model.Policy
	if key.Name == "" {
		p.add("metadata.name", "is missing; give the policy a name")
	}
	if spec == nil && len(specs) == 0 {
		p.add("spec", "is missing; a policy needs spec or specs")
	}
	if spec != nil {
		c := converter{p: p, namespace: key.Namespace}
		out = append(out, c.policy(key, 0, "spec", spec))
	}
	for i := range specs {
		name := fmt.Sprintf("specs[%d]", i)
		c := converter{p: p, namespace: key.Namespace, rulePrefix: name + "."}
		out = append(out, c.policy(key, len(out), name, &specs[i]))
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return out, nil
}

// converter turns one spec into a policy; what is wrong is collected in p.
type converter struct {
	p          *problems
	namespace  string // empty: not bound to one
	rulePrefix string // of rules' names: empty for spec, specs[i]. else
}

func (c *converter) policy(key model.PolicyKey, index int, path string, s *PolicySpec) model.Policy {
	if s.Ingress == nil && s.IngressDeny == nil && s.Egress == nil && s.EgressDeny == nil {
		c.p.add(path, "has no rules; one of ingress, ingressDeny, egress and egressDeny is needed")
	}
	c.refuse(path, "nodeSelector", s.NodeSelector != nil)
	c.refuse(path, "log", s.Log != nil)
	out := model.Policy{Key: key, Spec: index, Subject: c.subject(path+".endpointSelector", s.EndpointSelector, s.NodeSelector != nil)}
	out.Isolate[model.Ingress] = isolates(s.EnableDefaultDeny.Ingress, len(s.Ingress)+len(s.IngressDeny))
	out.Isolate[model.Egress] = isolates(s.EnableDefaultDeny.Egress, len(s.Egress)+len(s.EgressDeny))
	out.Rules = c.rules(path, s)
	return out
}

// isolates tells whether a direction denies by default: if it has rules and
// nothing else is said.
func isolates(said *bool, rules int) bool {
	if said != nil {
		return *said
	}
	return rules > 0
}

func (c *converter) rules(path string, s *PolicySpec) []model.Rule {
	var out []model.Rule
	add := func(list string, i int, d model.Direction, a model.Action, convert func(path string) ([]model.Peer, rulePorts)) {
		place := fmt.Sprintf("%s[%d]", list, i)
		peers, ports := convert(path + "." + place)
		rule := model.Rule{Direction: d, Action: a, Name: c.rulePrefix + place, Peers: peers, Ports: ports.plain}
		out = append(out, ports.split(rule)...)
	}
	for i := range s.Ingress {
		r := &s.Ingress[i]
		add("ingress", i, model.Ingress, model.ActionAllow, func(path string) ([]model.Peer, rulePorts) {
			c.refuse(path, "authentication", r.Authentication != nil)
			return c.ingressPeers(path, &r.IngressPeers, len(r.ToPorts)+len(r.ICMPs) > 0), c.allowPorts(path, r.ToPorts, r.ICMPs)
		})
	}
	for i := range s.IngressDeny {
		r := &s.IngressDeny[i]
		add("ingressDeny", i, model.Ingress, model.ActionDeny, func(path string) ([]model.Peer, rulePorts) {
			return c.ingressPeers(path, &r.IngressPeers, len(r.ToPorts)+len(r.ICMPs) > 0), c.denyPorts(path, r.ToPorts, r.ICMPs)
		})
	}
	for i := range s.Egress {
		r := &s.Egress[i]
		add("egress", i, model.Egress, model.ActionAllow, func(path string) ([]model.Peer, rulePorts) {
			c.refuse(path, "authentication", r.Authentication != nil)
			c.refuse(path, "toFQDNs", r.ToFQDNs != nil)
			return c.egressPeers(path, &r.EgressPeers, len(r.ToPorts)+len(r.ICMPs) > 0), c.allowPorts(path, r.ToPorts, r.ICMPs)
		})
	}
	for i := range s.EgressDeny {
		r := &s.EgressDeny[i]
		add("egressDeny", i, model.Egress, model.ActionDeny, func(path string) ([]model.Peer, rulePorts) {
			return c.egressPeers(path, &r.EgressPeers, len(r.ToPorts)+len(r.ICMPs) > 0), c.denyPorts(path, r.ToPorts, r.ICMPs)
		})
	}
	return out
}
