// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// Why explains an event in a clause: what allowed or refused it, or what a flow
// has carried.
func Why(f *agentv1.Flow) string {
	switch f.GetType() {
	case agentv1.FlowType_FLOW_TYPE_REQUEST:
		return requestWhy(f)
	case agentv1.FlowType_FLOW_TYPE_DROP:
		return refusal(f) + packets(f.GetCount())
	case agentv1.FlowType_FLOW_TYPE_AUDIT:
		return "let pass, but would be " + refusal(f) + packets(f.GetCount())
	case agentv1.FlowType_FLOW_TYPE_END:
		return "ended after " + duration(f) + ", " + carried(f)
	case agentv1.FlowType_FLOW_TYPE_ALIVE:
		return "open for " + duration(f) + ", " + carried(f)
	}
	return permission(f)
}

func refusal(f *agentv1.Flow) string {
	refs := decided(f)
	switch reason := model.Reason(f.GetDropReason()); {
	case reason == model.ReasonPolicyDefault && len(refs) > 0:
		verb := " isolates "
		if len(refs) > 1 {
			verb = " isolate "
		}
		return "denied by default: " + names(refs) + verb + direction(f)
	case reason == model.ReasonPolicyDefault:
		return "denied by default on " + direction(f) + ": no rule allows it"
	case (reason == model.ReasonPolicyDeny || reason == model.ReasonPassed) && len(refs) > 0:
		return "denied by " + names(refs)
	case reason == model.ReasonPassed:
		return "denied by a policy rule"
	case len(refs) > 0: // they let it pass, and it could not
		return reason.Text().Sentence + " (" + names(refs) + ")"
	default:
		return reason.Text().Sentence
	}
}

// decided are the rules of the direction that refused.
func decided(f *agentv1.Flow) []*agentv1.RuleRef {
	if f.GetDirection() == agentv1.Direction_DIRECTION_INGRESS {
		return f.GetIngress()
	}
	return f.GetEgress()
}

func direction(f *agentv1.Flow) string {
	if f.GetDirection() == agentv1.Direction_DIRECTION_INGRESS {
		return "ingress"
	}
	return "egress"
}

func permission(f *agentv1.Flow) string {
	refs := append(append([]*agentv1.RuleRef(nil), f.GetEgress()...), f.GetIngress()...)
	if len(refs) == 0 {
		return "allowed: no policy isolates either side"
	}
	return "allowed by " + names(refs)
}

func names(refs []*agentv1.RuleRef) string {
	out := make([]string, 0, len(refs))
	for _, r := range refs {
		key := model.PolicyKey{Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()}
		out = append(out, strings.TrimSpace(key.String()+" "+r.GetRule()))
	}
	return strings.Join(out, " and ")
}

// packets says how many a drop stands for, if more than itself.
func packets(n uint32) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d packets)", n)
}

func duration(f *agentv1.Flow) string {
	age := f.GetAge().AsDuration()
	if age < time.Second {
		return age.Round(time.Millisecond).String()
	}
	return age.Round(100 * time.Millisecond).String()
}

// carried is what both sides sent so far.
func carried(f *agentv1.Flow) string {
	return "sent " + volume(f.GetForward()) + ", received " + volume(f.GetReverse())
}

func volume(c *agentv1.Counters) string {
	return fmt.Sprintf("%s in %d packets", Bytes(c.GetBytes()), c.GetPackets())
}

// Bytes is a size in binary units.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.95 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
