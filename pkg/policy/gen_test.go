// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"pgregory.net/rapid"
)

// TestMain fixes the seed unless one is given: a random one belongs to
// test-long.
func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": "20261122", "rapid.checks": "400", "rapid.nofailfile": "true"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// The vocabulary is small, so that rules meet.
func pick[T any](t *rapid.T, name string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, name)
}

func label(key, value string) model.Label {
	return model.Label{Source: model.SourceK8s, Key: key, Value: value}
}

func genPod(t *rapid.T) (model.Labels, []model.NamedPort) {
	labels := []model.Label{label(model.LabelNamespace, pick(t, "ns", "x", "y"))}
	if app := pick(t, "app", "", "a", "b", "c"); app != "" {
		labels = append(labels, label("app", app))
	}
	if rapid.Bool().Draw(t, "tier") {
		labels = append(labels, label("tier", "1"))
	}
	var ports []model.NamedPort
	for _, name := range []string{"dns", "http"} {
		for _, proto := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			if pick(t, "named", true, false, false) {
				ports = append(ports, model.NamedPort{Name: name, Protocol: proto, Port: pick(t, "number", uint16(53), 80, 81)})
			}
		}
	}
	return model.NewLabels(labels...), ports
}

func genSelector(t *rapid.T) model.Selector {
	var s model.Selector
	for range rapid.IntRange(0, 2).Draw(t, "requirements") {
		r := model.Requirement{Source: pick(t, "source", "any", "k8s"), Operator: pick(t, "op", model.OpIn, model.OpIn, model.OpNotIn, model.OpExists, model.OpDoesNotExist)}
		r.Key = pick(t, "key", "app", "tier", model.LabelNamespace)
		if r.Operator == model.OpIn || r.Operator == model.OpNotIn {
			r.Values = []string{pick(t, "value", "a", "b", "x", "1")}
		}
		s.Requirements = append(s.Requirements, r)
	}
	return s
}

func prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.168.0.0/16",
		"::/0", "fd00::/8", "fd00:1::/32", "fd00:1::1/128"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range []string{"1.1.1.1", "10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "192.168.1.1",
		"2001:db8::1", "fd00:2::1", "fd00:1::2", "fd00:1::1"} {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func genPeer(t *rapid.T) model.Peer {
	switch pick(t, "peer", "any", "selector", "selector", "entity", "cidr", "cidr") {
	case "any":
		return model.Peer{Any: true}
	case "selector":
		s := genSelector(t)
		return model.Peer{Selector: &s}
	case "entity":
		return model.Peer{Entity: pick(t, "entity", "all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node", "none", "init")}
	}
	p := model.Peer{CIDR: rapid.SampledFrom(prefixes()).Draw(t, "cidr")}
	for _, x := range prefixes() {
		inside := x.Bits() >= p.CIDR.Bits() && p.CIDR.Contains(x.Addr())
		if inside && pick(t, "except", true, false, false) {
			p.Except = append(p.Except, x)
		}
	}
	return p
}

func genPorts(t *rapid.T) []model.PortRange {
	var out []model.PortRange
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		r := model.PortRange{Protocol: pick(t, "protocol", uint8(0), model.ProtoTCP, model.ProtoUDP, model.ProtoICMP, 112)}
		switch {
		case r.Protocol == model.ProtoICMP:
			r.First = uint16(pick(t, "type", 0, 8)) << 8
			r.Last = r.First | 0xff
		case r.Protocol == 112:
			r.Last = 65535
		case rapid.Bool().Draw(t, "name"):
			r.Name = pick(t, "portname", "dns", "http", "none")
		default:
			r.First = pick(t, "first", uint16(0), 50, 80, 81, 1000)
			r.Last = r.First + pick(t, "span", uint16(0), 1, 30, 64535)
		}
		out = append(out, r)
	}
	return out
}

func genPolicies(t *rapid.T) []model.Policy {
	var out []model.Policy
	for i := range rapid.IntRange(0, 6).Draw(t, "policies") {
		p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "x", Name: fmt.Sprint("p", i/2)}, Spec: i % 2}
		p.Subject = genSelector(t)
		p.Isolate = [2]bool{rapid.Bool().Draw(t, "egress"), rapid.Bool().Draw(t, "ingress")}
		for j := range rapid.IntRange(0, 5).Draw(t, "rules") {
			r := model.Rule{Name: fmt.Sprintf("specs[%d].%d", i%2, j), Direction: pick(t, "direction", model.Egress, model.Ingress)}
			r.Action = pick(t, "action", model.ActionAllow, model.ActionAllow, model.ActionDeny)
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				r.Peers = append(r.Peers, genPeer(t))
			}
			r.Ports = genPorts(t)
			p.Rules = append(p.Rules, r)
		}
		out = append(out, p)
	}
	return out
}

// shuffle makes a copy in a random order.
func shuffle[T any](t *rapid.T, in []T) []T {
	if len(in) == 0 {
		return slices.Clone(in)
	}
	return rapid.Permutation(in).Draw(t, "order")
}
