// SPDX-License-Identifier: Apache-2.0

// Package policygen makes random pods and policies for property tests: in the
// form of the model, and as the three kinds of objects that the converters read.
// The vocabulary is small, so that rules meet.
package policygen

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/model"
)

// Fix sets flags of property tests that were not given on the command line: a
// random seed belongs to the long level.
func Fix(checks string) error {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": "20261122", "rapid.checks": checks, "rapid.nofailfile": "true"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// Pick draws one of a few.
func Pick[T any](t *rapid.T, name string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, name)
}

// Shuffle makes a copy in a random order.
func Shuffle[T any](t *rapid.T, in []T) []T {
	if len(in) == 0 {
		return slices.Clone(in)
	}
	return rapid.Permutation(in).Draw(t, "order")
}

func label(key, value string) model.Label {
	return model.Label{Source: model.SourceK8s, Key: key, Value: value}
}

// Pod is the labels and the named ports of a pod.
func Pod(t *rapid.T) (model.Labels, []model.NamedPort) {
	ns := Pick(t, "ns", "x", "y")
	labels := []model.Label{label(model.LabelNamespace, ns), label(model.LabelNamespacePrefix+"team", "of-"+ns)}
	if app := Pick(t, "app", "", "a", "b", "c"); app != "" {
		labels = append(labels, label("app", app))
	}
	if rapid.Bool().Draw(t, "tier") {
		labels = append(labels, label("tier", "1"))
	}
	var ports []model.NamedPort
	for _, name := range []string{"dns", "http"} {
		for _, proto := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			if Pick(t, "named", true, false, false) {
				ports = append(ports, model.NamedPort{Name: name, Protocol: proto, Port: Pick(t, "number", uint16(53), 80, 81)})
			}
		}
	}
	return model.NewLabels(labels...), ports
}

// values of a key, most of them such as pods have.
func values(t *rapid.T, key string) []string {
	all := map[string][]string{"app": {"a", "b", "c"}, "tier": {"1"}, "team": {"of-x", "of-y"}, model.LabelNamespace: {"x", "y"}}[key]
	return Shuffle(t, append(all, "z"))[:Pick(t, "values", 1, 1, 2)]
}

func selector(t *rapid.T) model.Selector {
	var s model.Selector
	for range Pick(t, "requirements", 0, 1, 1, 2) {
		r := model.Requirement{Source: Pick(t, "source", "any", "k8s"), Operator: Pick(t, "op", model.OpIn, model.OpIn, model.OpNotIn, model.OpExists, model.OpDoesNotExist)}
		r.Key = Pick(t, "key", "app", "tier", model.LabelNamespace)
		if r.Operator == model.OpIn || r.Operator == model.OpNotIn {
			r.Values = values(t, r.Key)
		}
		s.Requirements = append(s.Requirements, r)
	}
	return s
}

// Prefixes are those that policies name; every one is inside an earlier one of
// its family.
func Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.168.0.0/16",
		"::/0", "fd00::/8", "fd00:1::/32", "fd00:1::1/128"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Addresses are one in each prefix that is in none of the longer ones.
func Addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range []string{"1.1.1.1", "10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "192.168.1.1",
		"2001:db8::1", "fd00:2::1", "fd00:1::2", "fd00:1::1"} {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func entityName(t *rapid.T) string {
	return Pick(t, "entity", "all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node",
		"kube-apiserver", "health", "ingress", "unmanaged", "none", "init")
}

// cidr is a prefix and some of those inside it.
func cidr(t *rapid.T) (netip.Prefix, []netip.Prefix) {
	outer := rapid.SampledFrom(Prefixes()).Draw(t, "cidr")
	var except []netip.Prefix
	for _, x := range Prefixes() {
		inside := x.Bits() >= outer.Bits() && outer.Contains(x.Addr())
		if inside && Pick(t, "except", true, false, false) {
			except = append(except, x)
		}
	}
	return outer, except
}

func peer(t *rapid.T) model.Peer {
	switch Pick(t, "peer", "any", "selector", "selector", "entity", "cidr", "cidr") {
	case "any":
		return model.Peer{Any: true}
	case "selector":
		s := selector(t)
		return model.Peer{Selector: &s}
	case "entity":
		return model.Peer{Entity: entityName(t)}
	}
	p, except := cidr(t)
	return model.Peer{CIDR: p, Except: except}
}

// portRange is a range from the vocabulary or, now and then, any.
func portRange(t *rapid.T) (first, last uint16) {
	if Pick(t, "wild", true, false, false) {
		a, b := rapid.Uint16Min(1).Draw(t, "a"), rapid.Uint16Min(1).Draw(t, "b")
		return min(a, b), max(a, b)
	}
	first = Pick(t, "first", uint16(0), 50, 80, 81, 1000)
	return first, first + Pick(t, "span", uint16(0), 1, 30, 64535)
}

func ports(t *rapid.T) []model.PortRange {
	var out []model.PortRange
	for range Pick(t, "ports", 0, 0, 1, 2, 3) {
		r := model.PortRange{Protocol: Pick(t, "protocol", uint8(0), model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP,
			model.ProtoICMP, model.ProtoICMPv6, 112)}
		switch {
		case r.Protocol == model.ProtoICMP:
			r.First = uint16(Pick(t, "type", 0, 8, 13)) << 8
			r.Last = r.First | 0xff
		case r.Protocol == model.ProtoICMPv6:
			r.First = uint16(Pick(t, "type", 128, 129, 160)) << 8
			r.Last = r.First | 0xff
		case r.Protocol == 112:
			r.Last = 65535
		case rapid.Bool().Draw(t, "name"):
			r.Name = Pick(t, "portname", "dns", "http", "none")
		default:
			r.First, r.Last = portRange(t)
		}
		out = append(out, r)
	}
	return out
}

// Policies are up to six in the form of the model, also such as no object gives.
func Policies(t *rapid.T) []model.Policy {
	var out []model.Policy
	for i := range Pick(t, "policies", 0, 1, 2, 3, 4, 5, 6) {
		p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "x", Name: fmt.Sprint("p", i/2)}, Spec: i % 2}
		p.Subject = selector(t)
		p.Isolate = [2]bool{rapid.Bool().Draw(t, "egress"), rapid.Bool().Draw(t, "ingress")}
		for j := range Pick(t, "rules", 0, 1, 2, 3, 4, 5) {
			r := model.Rule{Name: fmt.Sprintf("specs[%d].%d", i%2, j), Direction: Pick(t, "direction", model.Egress, model.Ingress)}
			r.Action = Pick(t, "action", model.ActionAllow, model.ActionAllow, model.ActionDeny)
			for range Pick(t, "peers", 0, 1, 1, 2, 2) {
				r.Peers = append(r.Peers, peer(t))
			}
			r.Ports = ports(t)
			if r.Action == model.ActionAllow && Pick(t, "more", true, false, false) {
				r.Ports, r.L7 = transport(r.Ports), requests(t)
			}
			p.Rules = append(p.Rules, r)
		}
		out = append(out, p)
	}
	return out
}

// transport makes ports such as more can be asked of: TCP's.
func transport(ports []model.PortRange) []model.PortRange {
	out := []model.PortRange{{Protocol: model.ProtoTCP, First: 80, Last: 80}}
	for _, p := range ports {
		if p.Protocol == 0 || p.Protocol == model.ProtoTCP {
			p.Protocol = model.ProtoTCP
			out = append(out, p)
		}
	}
	return out[min(len(out)-1, 1):]
}

// requests is what a rule may ask for above ports.
func requests(t *rapid.T) *model.L7 {
	switch Pick(t, "requests", "http", "grpc", "names") {
	case "http":
		return &model.L7{HTTP: []model.HTTPRule{{Method: Pick(t, "method", "", "GET"), Path: Pick(t, "path", "", "/a", "/b/.*")}}}
	case "grpc":
		return &model.L7{GRPC: []model.GRPCRule{{Service: Pick(t, "service", "", "a.B")}}, Audit: rapid.Bool().Draw(t, "audit")}
	}
	return &model.L7{ServerNames: []string{Pick(t, "server", "a.b", "*.b")}}
}
