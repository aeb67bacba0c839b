// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// ToProto writes a flow as the API has it.
func ToProto(f *model.Flow) *agentv1.Flow {
	return &agentv1.Flow{
		Time: timestamppb.New(f.Time), Type: agentv1.FlowType(f.Type), Verdict: VerdictOf(f),
		DropReason: agentv1.DropReason(f.Reason), Direction: agentv1.Direction(f.Direction) + 1,
		Source: peerToProto(&f.Peers[0]), Destination: peerToProto(&f.Peers[1]),
		Protocol: ProtocolName(f.Protocol),
		IcmpType: uint32(f.ICMPType), IcmpCode: uint32(f.ICMPCode), TcpFlags: TCPFlagNames(f.TCPFlags),
		Egress: rulesToProto(f.Rules[0]), Ingress: rulesToProto(f.Rules[1]),
		Forward: &agentv1.Counters{Packets: f.Packets[0], Bytes: f.Bytes[0]},
		Reverse: &agentv1.Counters{Packets: f.Packets[1], Bytes: f.Bytes[1]},
		Age:     durationpb.New(f.Age), Count: f.Count,
		Service: serviceToProto(f.Service), Request: requestToProto(f.Request),
		Ruleset: uint32(f.Ruleset), Leg: agentv1.FlowLeg(f.Leg),
	}
}

// VerdictOf is what happened to the packets of an event, or to a request.
func VerdictOf(f *model.Flow) agentv1.Verdict {
	if f.Request != nil {
		return verdictOfRequest(f.Request.Outcome)
	}
	switch f.Type {
	case model.FlowDrop:
		return agentv1.Verdict_VERDICT_DROPPED
	case model.FlowAudit:
		return agentv1.Verdict_VERDICT_AUDIT
	}
	return agentv1.Verdict_VERDICT_FORWARDED
}

func verdictOfRequest(o model.Outcome) agentv1.Verdict {
	switch o {
	case model.RequestAllowed, model.RequestOpen:
		return agentv1.Verdict_VERDICT_FORWARDED
	case model.RequestAudited:
		return agentv1.Verdict_VERDICT_AUDIT
	}
	return agentv1.Verdict_VERDICT_DROPPED
}

func requestToProto(r *model.Request) *agentv1.Request {
	if r == nil {
		return nil
	}
	out := &agentv1.Request{Ruleset: uint32(r.Ruleset), Outcome: string(r.Outcome), Protocol: r.Protocol,
		Method: valid(r.Method), Path: valid(r.Path), Host: valid(r.Host), Status: r.Status, Detail: valid(r.Detail)}
	for _, name := range r.Mismatch {
		out.Mismatch = append(out.Mismatch, valid(name))
	}
	if r.GRPCStatus >= 0 {
		out.GrpcStatus = &r.GRPCStatus
	}
	return out
}

// valid is a client's text as the API can carry it.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func requestFromProto(r *agentv1.Request) *model.Request {
	if r == nil {
		return nil
	}
	out := &model.Request{Ruleset: model.RulesetID(r.GetRuleset()), Outcome: model.Outcome(r.GetOutcome()), Protocol: r.GetProtocol(),
		Method: r.GetMethod(), Path: r.GetPath(), Host: r.GetHost(), Status: r.GetStatus(), GRPCStatus: -1,
		Mismatch: r.GetMismatch(), Detail: r.GetDetail()}
	if r.GrpcStatus != nil {
		out.GRPCStatus = r.GetGrpcStatus()
	}
	return out
}

func peerToProto(p *model.FlowPeer) *agentv1.Peer {
	out := &agentv1.Peer{
		Port: uint32(p.Port), Identity: uint32(p.Identity), Labels: p.Labels.Strings(),
		Namespace: p.Pod.Namespace, Pod: p.Pod.Name, Endpoint: p.Endpoint,
		Entity: entityName(p.Identity), Workload: p.Workload.String(),
	}
	if p.Addr.IsValid() {
		out.Ip = p.Addr.String()
	}
	return out
}

// entityName is the reserved name of an identity, or empty. It says the same as
// model.ReservedNames without making a map for each flow.
func entityName(id model.IdentityID) string {
	names := [...]string{"", "host", "remote-node", "world-ipv4", "world-ipv6", "kube-apiserver",
		"health", "ingress", "unmanaged", "unknown"}
	if int(id) < len(names) {
		return names[id]
	}
	return ""
}

func rulesToProto(refs []model.RuleRef) []*agentv1.RuleRef {
	out := make([]*agentv1.RuleRef, 0, len(refs))
	for _, r := range refs {
		out = append(out, &agentv1.RuleRef{
			Kind: r.Policy.Kind, Namespace: r.Policy.Namespace, Name: r.Policy.Name,
			Rule: r.Rule, Action: r.Action.String(),
		})
	}
	return out
}

// ProtocolName is the name of an IP protocol in the API, or its number.
func ProtocolName(proto uint8) string {
	switch proto {
	case model.ProtoICMP:
		return "icmp"
	case model.ProtoTCP:
		return "tcp"
	case model.ProtoUDP:
		return "udp"
	case model.ProtoICMPv6:
		return "icmpv6"
	case model.ProtoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}

// tcpFlagNames are the flags of a TCP header by bit, lowest first.
func tcpFlagNames() [8]string {
	return [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}
}

// TCPFlagNames is a set of TCP flags as "SYN,ACK"; SYN is first, as people say it.
func TCPFlagNames(flags uint8) string {
	var out []string
	for bit, name := range tcpFlagNames() {
		switch {
		case flags&(1<<bit) == 0:
		case name == "SYN":
			out = append([]string{name}, out...)
		default:
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

// FromProto reads a flow of the API back; what does not parse stays empty.
func FromProto(p *agentv1.Flow) *model.Flow {
	return &model.Flow{
		Time: p.GetTime().AsTime(), Type: model.FlowType(p.GetType()), Reason: uint8(p.GetDropReason()),
		Direction: model.Direction(max(p.GetDirection(), 1) - 1),
		Protocol:  protocolNumber(p.GetProtocol()), TCPFlags: tcpFlagsOf(p.GetTcpFlags()),
		ICMPType: uint8(p.GetIcmpType()), ICMPCode: uint8(p.GetIcmpCode()),
		Peers:   [2]model.FlowPeer{peerFromProto(p.GetSource()), peerFromProto(p.GetDestination())},
		Rules:   [2][]model.RuleRef{rulesFromProto(p.GetEgress()), rulesFromProto(p.GetIngress())},
		Packets: [2]uint64{p.GetForward().GetPackets(), p.GetReverse().GetPackets()},
		Bytes:   [2]uint64{p.GetForward().GetBytes(), p.GetReverse().GetBytes()},
		Count:   p.GetCount(), Age: p.GetAge().AsDuration(),
		Service: model.ServicePortKey{
			Service: model.ServiceKey{Namespace: p.GetService().GetNamespace(), Name: p.GetService().GetName()},
			Port:    uint16(p.GetService().GetPort()),
		},
		Request: requestFromProto(p.GetRequest()),
		Ruleset: model.RulesetID(p.GetRuleset()), Leg: model.Leg(p.GetLeg()),
	}
}

func serviceToProto(s model.ServicePortKey) *agentv1.FlowService {
	if s == (model.ServicePortKey{}) {
		return nil
	}
	return &agentv1.FlowService{Namespace: s.Service.Namespace, Name: s.Service.Name, Port: uint32(s.Port)}
}

func peerFromProto(p *agentv1.Peer) model.FlowPeer {
	out := model.FlowPeer{
		Port: uint16(p.GetPort()), Identity: model.IdentityID(p.GetIdentity()),
		Pod:      model.PodKey{Namespace: p.GetNamespace(), Name: p.GetPod()},
		Endpoint: p.GetEndpoint(),
	}
	out.Workload.Kind, out.Workload.Name, _ = strings.Cut(p.GetWorkload(), "/")
	out.Addr, _ = netip.ParseAddr(p.GetIp())
	for _, s := range p.GetLabels() {
		if l, err := model.ParseLabel(s); err == nil {
			out.Labels = append(out.Labels, l)
		}
	}
	return out
}

// PolicyOf is the policy that a reference names.
func PolicyOf(r *agentv1.RuleRef) model.PolicyKey {
	return model.PolicyKey{Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()}
}

func rulesFromProto(refs []*agentv1.RuleRef) []model.RuleRef {
	var out []model.RuleRef
	for _, r := range refs {
		ref := model.RuleRef{
			Policy: PolicyOf(r),
			Rule:   r.GetRule(),
		}
		for a := model.ActionAllow; a <= model.ActionAudit; a++ {
			if a.String() == r.GetAction() {
				ref.Action = a
			}
		}
		out = append(out, ref)
	}
	return out
}

// protocolNumber is the inverse of ProtocolName; 0 for what is neither.
func protocolNumber(name string) uint8 {
	for _, proto := range []uint8{model.ProtoICMP, model.ProtoTCP, model.ProtoUDP, model.ProtoICMPv6, model.ProtoSCTP} {
		if strings.EqualFold(name, ProtocolName(proto)) {
			return proto
		}
	}
	n, _ := strconv.ParseUint(name, 10, 8)
	return uint8(n)
}

func tcpFlagsOf(names string) uint8 {
	var flags uint8
	for _, n := range strings.Split(names, ",") {
		for bit, name := range tcpFlagNames() {
			if n == name {
				flags |= 1 << bit
			}
		}
	}
	return flags
}
