// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	protoIGMP uint8 = 2
	protoVRRP uint8 = 112
	maxPort         = 65535
)

func (c *converter) allowPorts(path string, rules []PortRule, icmps []ICMPRule) []model.PortRange {
	lists := make([][]PortProtocol, len(rules))
	for i := range rules {
		r, at := &rules[i], fmt.Sprintf("%s.toPorts[%d]", path, i)
		lists[i] = r.Ports
		c.refuse(at, "listener", r.Listener != nil)
		c.refuse(at, "terminatingTLS", r.TerminatingTLS != nil)
		c.refuse(at, "originatingTLS", r.OriginatingTLS != nil)
		c.refuse(at, "serverNames", r.ServerNames != nil)
		c.refuseL7(at, r.Rules)
	}
	return c.ports(path, lists, icmps)
}

// refuseL7 names the kinds of L7 rules that are used; an empty object asks for
// nothing, but is not left to guess either.
func (c *converter) refuseL7(path string, r *L7Rules) {
	if r == nil {
		return
	}
	n := len(c.p.found)
	c.refuse(path, "rules.http", r.HTTP != nil)
	c.refuse(path, "rules.kafka", r.Kafka != nil)
	c.refuse(path, "rules.dns", r.DNS != nil)
	c.refuse(path, "rules.l7", r.L7 != nil)
	c.refuse(path, "rules.l7proto", r.L7Proto != "")
	c.refuse(path, "rules", len(c.p.found) == n)
}

func (c *converter) denyPorts(path string, rules []PortDenyRule, icmps []ICMPRule) []model.PortRange {
	lists := make([][]PortProtocol, len(rules))
	for i := range rules {
		lists[i] = rules[i].Ports
	}
	return c.ports(path, lists, icmps)
}

// ports converts a rule's ports; no ports mean every protocol, so a list that
// is there and says nothing is refused rather than taken for that.
func (c *converter) ports(path string, lists [][]PortProtocol, icmps []ICMPRule) []model.PortRange {
	if len(lists) > 0 && len(icmps) > 0 {
		c.p.add(path, "combines toPorts and icmps; write a rule for each")
	}
	var out []model.PortRange
	for i, list := range lists {
		at := fmt.Sprintf("%s.toPorts[%d].ports", path, i)
		if len(list) == 0 {
			c.p.add(at, "is empty; list ports, or remove toPorts to mean every port")
		}
		for j := range list {
			c.port(fmt.Sprintf("%s[%d]", at, j), &list[j], &out)
		}
	}
	for i, rule := range icmps {
		at := fmt.Sprintf("%s.icmps[%d].fields", path, i)
		if len(rule.Fields) == 0 {
			c.p.add(at, "is empty; list types, or remove icmps")
		}
		for j := range rule.Fields {
			c.icmp(fmt.Sprintf("%s[%d]", at, j), &rule.Fields[j], &out)
		}
	}
	return out
}

func (c *converter) port(path string, in *PortProtocol, out *[]model.PortRange) {
	proto, whole, ok := protocol(in.Protocol)
	if !ok {
		c.p.add(path+".protocol", "protocol %q is unknown; use TCP, UDP, SCTP, VRRP, IGMP or ANY", in.Protocol)
		return
	}
	if whole {
		if in.Port != "" && in.Port != "0" || in.EndPort != 0 {
			c.p.add(path+".port", "%s has no ports; write 0", in.Protocol)
			return
		}
		*out = append(*out, model.PortRange{Protocol: proto, Last: maxPort})
		return
	}
	if in.Port == "" {
		c.p.add(path+".port", "is missing; write a number or a name, or 0 for every port")
		return
	}
	r, err := ParsePort(in.Port, in.EndPort)
	if err != nil {
		c.p.add(path, "%v", err)
		return
	}
	r.Protocol = proto
	*out = append(*out, r)
}

// ParsePort reads a number (0: every port), a range or a name.
func ParsePort(port string, end int32) (model.PortRange, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err == nil && len(port) > 1 && port[0] == '0' {
		return model.PortRange{}, fmt.Errorf("port %q begins with 0; write it without, or 0 alone for every port", port)
	}
	if err != nil {
		name, ok := portName(port)
		switch {
		case !ok:
			return model.PortRange{}, fmt.Errorf("port %q is neither a number from 0 to 65535 nor a name of lower-case letters, digits and dashes", port)
		case end != 0:
			return model.PortRange{}, fmt.Errorf("endPort needs a number as port, not the name %q", port)
		}
		return model.PortRange{Name: name}, nil
	}
	first := uint16(n)
	switch {
	case end == 0 && first == 0:
		return model.PortRange{Last: maxPort}, nil
	case end == 0:
		return model.PortRange{First: first, Last: first}, nil
	case first == 0:
		return model.PortRange{}, fmt.Errorf("endPort needs a port from 1; 0 alone means every port")
	case end < int32(first) || end > maxPort:
		return model.PortRange{}, fmt.Errorf("endPort %d is not between port %d and 65535", end, first)
	}
	return model.PortRange{First: first, Last: uint16(end)}, nil
}

// portName checks the name of a port (RFC 6335, but up to 63 characters) and
// makes it lower case, as containers' ports are.
func portName(s string) (string, bool) {
	letter := false
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letter = true
		case r >= '0' && r <= '9':
		case r == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return "", false
		}
	}
	return strings.ToLower(s), letter && len(s) <= 63
}

// protocol reads a protocol's name; whole tells that it has no ports.
func protocol(name string) (number uint8, whole, ok bool) {
	switch strings.ToUpper(name) {
	case "", "ANY":
		return 0, false, true
	case "TCP":
		return model.ProtoTCP, false, true
	case "UDP":
		return model.ProtoUDP, false, true
	case "SCTP":
		return model.ProtoSCTP, false, true
	case "VRRP":
		return protoVRRP, true, true
	case "IGMP":
		return protoIGMP, true, true
	}
	return 0, false, false
}

func (c *converter) icmp(path string, in *ICMPField, out *[]model.PortRange) {
	proto, names := model.ProtoICMP, icmp4Types()
	switch in.Family {
	case "", "IPv4":
	case "IPv6":
		proto, names = model.ProtoICMPv6, icmp6Types()
	default:
		c.p.add(path+".family", "family %q is unknown; use IPv4 or IPv6", in.Family)
		return
	}
	if in.Type == nil {
		c.p.add(path+".type", "is missing; write a number from 0 to 255 or a name such as EchoRequest")
		return
	}
	n, ok := int(in.Type.IntVal), true
	if in.Type.Type == intstr.String {
		if t, known := names[in.Type.StrVal]; known {
			n = int(t)
		} else if v, err := strconv.ParseUint(in.Type.StrVal, 10, 8); err == nil {
			n = int(v)
		} else {
			ok = false
		}
	}
	if !ok || n < 0 || n > 255 {
		c.p.add(path+".type", "type %q is unknown; write a number from 0 to 255 or a name such as EchoRequest", in.Type.String())
		return
	}
	*out = append(*out, model.PortRange{Protocol: proto, First: uint16(n) << 8, Last: uint16(n)<<8 | 0xff})
}
