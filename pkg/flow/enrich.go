// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// Enrich makes the flow that is stored and shown out of an event and the names
// known at the time. It is pure; a name that is not known stays empty.
func Enrich(e *Event, at time.Time, names Names) *model.Flow {
	f := &model.Flow{
		Time: at, Type: e.Type, Reason: uint8(e.Reason), Direction: e.Direction,
		Protocol: e.Protocol, TCPFlags: e.TCPFlags, ICMPType: e.ICMPType, ICMPCode: e.ICMPCode,
		Packets: e.Packets, Bytes: e.Bytes, Count: e.Count, Age: e.Age,
		Ruleset: e.Ruleset, Leg: e.Leg,
	}
	for side := range f.Peers {
		f.Peers[side] = peer(e, side, names)
	}
	for dir, id := range e.Rules {
		if ref, ok := names.Rule(id); id != 0 && ok {
			f.Rules[dir] = []model.RuleRef{ref}
		}
	}
	f.Service = service(e, names)
	if e.Reason == model.ReasonPolicyDefault {
		f.Rules[e.Direction] = isolating(e, names)
	}
	return f
}

// service is what was asked for. A packet that nobody serves has no number of a
// service: it still bears the service's address.
func service(e *Event, names Names) (s model.ServicePortKey) {
	if e.Service != 0 {
		s, _ = names.Service(e.Service)
	} else if e.Type == model.FlowDrop && e.Reason == model.ReasonNoBackend {
		s, _ = names.Frontend(model.FrontendKey{Addr: e.Addrs[1], Port: e.Ports[1], Protocol: e.Protocol})
	}
	return s
}

// peer names one side. The identity is the one that the kernel decided with, so
// it comes from the event.
func peer(e *Event, side int, names Names) model.FlowPeer {
	p := model.FlowPeer{Addr: e.Addrs[side], Port: e.Ports[side], Identity: e.Identities[side]}
	if w, ok := workload(e, side, names); ok {
		p.Pod, p.Endpoint, p.Workload = w.Pod, w.Endpoint, w.Owner
	}
	p.Labels, _ = names.Labels(p.Identity)
	return p
}

// workload is who the side was. An address or a slot may have passed to another
// pod since: it is believed only if slot and address agree (the pod may have been
// relabelled), or identity and one of the two (a spoofed address is not the
// sender's).
func workload(e *Event, side int, names Names) (Workload, bool) {
	byAddr, ok := names.Workload(e.Addrs[side])
	slot, identity := e.Slots[side], e.Identities[side]
	if slot == 0 {
		return byAddr, ok && byAddr.Identity == identity
	}
	if ok && byAddr.Slot == slot {
		return byAddr, true
	}
	bySlot, ok := names.Endpoint(slot)
	return bySlot.Workload, ok && bySlot.Identity == identity
}

// isolating are the policies behind a default deny, in the place of rules.
func isolating(e *Event, names Names) []model.RuleRef {
	slot := e.Slots[0]
	if e.Direction == model.Ingress {
		slot = e.Slots[1]
	}
	endpoint, _ := names.Endpoint(slot)
	keys := endpoint.Isolated[e.Direction]
	refs := make([]model.RuleRef, 0, len(keys))
	for _, k := range keys {
		refs = append(refs, model.RuleRef{Policy: k, Action: model.ActionDeny})
	}
	return refs
}
