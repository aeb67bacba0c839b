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

// rulePorts are the ports of one rule: those of which no more is asked, and apart the
// items of toPorts that ask for more.
type rulePorts struct {
	plain []model.PortRange
	l7    []l7Ports
}

// l7Ports is one of those items.
type l7Ports struct {
	place string // toPorts[0]
	ports []model.PortRange
	l7    *model.L7
}

// split makes a rule into one for the ports of which no more is asked, and one for
// each item that asks for more. A rule without such items stays as it is.
func (p rulePorts) split(rule model.Rule) []model.Rule {
	if len(p.l7) == 0 {
		return []model.Rule{rule}
	}
	var out []model.Rule
	if len(rule.Ports) > 0 { // none would mean all
		out = append(out, rule)
	}
	for _, item := range p.l7 {
		one := rule
		one.Name += "." + item.place
		one.Ports, one.L7 = item.ports, item.l7
		out = append(out, one)
	}
	return out
}

func (c *converter) allowPorts(path string, rules []PortRule, icmps []ICMPRule) rulePorts {
	var out rulePorts
	c.notBoth(path, len(rules), icmps)
	for i := range rules {
		r, place := &rules[i], fmt.Sprintf("toPorts[%d]", i)
		at := path + "." + place
		c.refuse(at, "listener", r.Listener != nil)
		c.refuse(at, "terminatingTLS", r.TerminatingTLS != nil)
		c.refuse(at, "originatingTLS", r.OriginatingTLS != nil)
		ports := c.portList(at, r.Ports)
		if l7 := c.l7(at, r); l7 != nil {
			c.onlyTCP(at, r.Ports)
			out.l7 = append(out.l7, l7Ports{place, ports, l7})
			continue
		}
		out.plain = append(out.plain, ports...)
	}
	out.plain = append(out.plain, c.icmps(path, icmps)...)
	return out
}

func (c *converter) denyPorts(path string, rules []PortDenyRule, icmps []ICMPRule) rulePorts {
	var out rulePorts
	c.notBoth(path, len(rules), icmps)
	for i := range rules {
		out.plain = append(out.plain, c.portList(fmt.Sprintf("%s.toPorts[%d]", path, i), rules[i].Ports)...)
	}
	out.plain = append(out.plain, c.icmps(path, icmps)...)
	return out
}

func (c *converter) notBoth(path string, ports int, icmps []ICMPRule) {
	if ports > 0 && len(icmps) > 0 {
		c.p.add(path, "combines toPorts and icmps; write a rule for each")
	}
}

// portList converts an item's ports; no ports mean every protocol, so a list that is
// there and says nothing is refused rather than taken for that.
func (c *converter) portList(path string, list []PortProtocol) []model.PortRange {
	var out []model.PortRange
	at := path + ".ports"
	if len(list) == 0 {
		c.p.add(at, "is empty; list ports, or remove toPorts to mean every port")
	}
	for i := range list {
		c.port(fmt.Sprintf("%s[%d]", at, i), &list[i], &out)
	}
	return out
}

func (c *converter) icmps(path string, icmps []ICMPRule) []model.PortRange {
	var out []model.PortRange
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
