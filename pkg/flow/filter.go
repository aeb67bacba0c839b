// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// Match tells whether a flow is wanted.
type Match func(*model.Flow) bool

// Compile reads filters once so that each flow is matched cheaply: a flow is
// wanted if any filter of include matches it (or there is none) and none of
// exclude does. A filter without a field matches nothing.
func Compile(include, exclude []*agentv1.FlowFilter) (Match, error) {
	in, err := compileAll(include)
	if err != nil {
		return nil, err
	}
	out, err := compileAll(exclude)
	if err != nil {
		return nil, err
	}
	return func(f *model.Flow) bool {
		matches := func(m Match) bool { return m(f) }
		return (len(in) == 0 || slices.ContainsFunc(in, matches)) && !slices.ContainsFunc(out, matches)
	}, nil
}

func compileAll(filters []*agentv1.FlowFilter) ([]Match, error) {
	var out []Match
	for _, f := range filters {
		m, err := compile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// compile joins the fields that are set: all of them must match.
func compile(f *agentv1.FlowFilter) (Match, error) {
	var all []Match
	for _, field := range []func(*agentv1.FlowFilter) (Match, error){
		podField, fromPodField, toPodField, namespaceField, labelField, identityField,
		ipField, portField, protocolField, verdictField, typeField, serviceField,
		methodField, pathField, statusField,
	} {
		m, err := field(f)
		if err != nil {
			return nil, err
		}
		if m != nil {
			all = append(all, m)
		}
	}
	return func(flow *model.Flow) bool {
		return len(all) > 0 && !slices.ContainsFunc(all, func(m Match) bool { return !m(flow) })
	}, nil
}

// anyPeer matches a flow when either side does.
func anyPeer(match func(*model.FlowPeer) bool) Match {
	return func(f *model.Flow) bool { return match(&f.Peers[0]) || match(&f.Peers[1]) }
}

func podField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetPod()) == 0 {
		return nil, nil
	}
	return anyPeer(func(p *model.FlowPeer) bool { return podNamed(f.GetPod(), p.Pod) }), nil
}

func fromPodField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetFromPod()) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool { return podNamed(f.GetFromPod(), flow.Peers[0].Pod) }, nil
}

func toPodField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetToPod()) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool { return podNamed(f.GetToPod(), flow.Peers[1].Pod) }, nil
}

// podNamed is named for pods: "namespace/name" is also each pod of a workload of that
// name, for controllers name their pods after themselves and a dash.
func podNamed(patterns []string, pod model.PodKey) bool {
	if named(patterns, pod.Namespace, pod.Name) {
		return true
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ns, owner, _ := strings.Cut(pattern, "/")
		return owner != "" && pod.Namespace == ns && strings.HasPrefix(pod.Name, owner+"-")
	})
}

// named: "namespace/name" is that pod or service, "namespace/" all of a
// namespace, anything else the beginning of a name.
func named(patterns []string, namespace, name string) bool {
	if name == "" {
		return false
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ns, wanted, ok := strings.Cut(pattern, "/")
		if !ok {
			return strings.HasPrefix(name, pattern)
		}
		return namespace == ns && (wanted == "" || wanted == name)
	})
}

func namespaceField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetNamespace()) == 0 {
		return nil, nil
	}
	return anyPeer(func(p *model.FlowPeer) bool {
		return p.Pod.Namespace != "" && slices.Contains(f.GetNamespace(), p.Pod.Namespace)
	}), nil
}

func labelField(f *agentv1.FlowFilter) (Match, error) {
	var selectors []model.Selector
	for _, s := range f.GetLabel() {
		sel, err := parseSelector(s)
		if err != nil {
			return nil, err
		}
		selectors = append(selectors, sel)
	}
	if len(selectors) == 0 {
		return nil, nil
	}
	return anyPeer(func(p *model.FlowPeer) bool {
		return slices.ContainsFunc(selectors, func(s model.Selector) bool { return selects(s, p.Labels) })
	}), nil
}

func identityField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetIdentity()) == 0 {
		return nil, nil
	}
	return anyPeer(func(p *model.FlowPeer) bool {
		return slices.Contains(f.GetIdentity(), uint32(p.Identity))
	}), nil
}

func ipField(f *agentv1.FlowFilter) (Match, error) {
	var prefixes []netip.Prefix
	for _, s := range f.GetIp() {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) == 0 {
		return nil, nil
	}
	return anyPeer(func(p *model.FlowPeer) bool {
		return slices.ContainsFunc(prefixes, func(x netip.Prefix) bool { return x.Contains(p.Addr) })
	}), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("ip %q: want an address or a CIDR", s)
	}
	return p, nil
}

func portField(f *agentv1.FlowFilter) (Match, error) {
	for _, port := range f.GetPort() {
		if port == 0 || port > 65535 {
			return nil, fmt.Errorf("port %d: want 1 to 65535", port)
		}
	}
	if len(f.GetPort()) == 0 {
		return nil, nil
	}
	byPort := anyPeer(func(p *model.FlowPeer) bool { return slices.Contains(f.GetPort(), uint32(p.Port)) })
	return func(flow *model.Flow) bool {
		return hasPorts(flow.Protocol) && byPort(flow)
	}, nil
}

// hasPorts: for ICMP the kernel keeps the identifier where ports are.
func hasPorts(proto uint8) bool {
	return proto == model.ProtoTCP || proto == model.ProtoUDP || proto == model.ProtoSCTP
}

func protocolField(f *agentv1.FlowFilter) (Match, error) {
	var protocols []uint8
	for _, s := range f.GetProtocol() {
		proto := protocolNumber(s)
		if proto == 0 && s != strconv.Itoa(0) {
			return nil, fmt.Errorf("protocol %q: want tcp, udp, sctp, icmp, icmpv6 or a number", s)
		}
		protocols = append(protocols, proto)
	}
	if len(protocols) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool { return slices.Contains(protocols, flow.Protocol) }, nil
}

func verdictField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetVerdict()) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool { return slices.Contains(f.GetVerdict(), VerdictOf(flow)) }, nil
}

func typeField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetType()) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool { return slices.Contains(f.GetType(), agentv1.FlowType(flow.Type)) }, nil
}

func serviceField(f *agentv1.FlowFilter) (Match, error) {
	if len(f.GetService()) == 0 {
		return nil, nil
	}
	return func(flow *model.Flow) bool {
		return named(f.GetService(), flow.Service.Service.Namespace, flow.Service.Service.Name)
	}, nil
}
