// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 3, 4, 123e6, time.UTC) }

// demoNames is a node with an intruder and an isolated backend.
func demoNames() *Maps {
	isolating := model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "backend"}
	intruder := Workload{Pod: model.PodKey{Namespace: "demo", Name: "intruder"}, Identity: 300, Slot: 3, Endpoint: 13}
	backend := Workload{Pod: model.PodKey{Namespace: "demo", Name: "backend-v1"}, Identity: 257, Slot: 4, Endpoint: 14}
	return &Maps{
		Workloads: map[netip.Addr]Workload{
			netip.MustParseAddr("10.0.0.3"): intruder,
			netip.MustParseAddr("10.0.0.4"): backend,
		},
		Endpoints: map[uint16]Endpoint{
			3: {Workload: intruder},
			4: {Workload: backend, Isolated: [2][]model.PolicyKey{model.Ingress: {isolating}}},
		},
		Identities: map[model.IdentityID]model.Labels{
			300: model.NewLabels(model.Label{Source: "k8s", Key: "app", Value: "intruder"}),
			257: model.NewLabels(model.Label{Source: "k8s", Key: "app", Value: "backend"}),
		},
		Services: demoServices{numbers: map[uint32]model.ServicePortKey{21: {Service: model.ServiceKey{Namespace: "demo", Name: "web"}, Port: 80}}},
		Rules:    map[model.RuleID]model.RuleRef{5: {Policy: isolating, Rule: "ingress[0]", Action: model.ActionAllow}},
	}
}

// demoServices are Services made of maps.
type demoServices struct {
	numbers map[uint32]model.ServicePortKey
	addrs   map[model.FrontendKey]model.ServicePortKey
}

func (d demoServices) Service(number uint32) (model.ServicePortKey, bool) {
	s, ok := d.numbers[number]
	return s, ok
}

func (d demoServices) Frontend(at model.FrontendKey) (model.ServicePortKey, bool) {
	s, ok := d.addrs[at]
	return s, ok
}

func enriched(t *testing.T, k weftbpf.BpfWeftFlow, names Names) *model.Flow {
	t.Helper()
	e, err := Decode(encode(k))
	if err != nil {
		t.Fatal(err)
	}
	return Enrich(&e, noon(), names)
}

func TestEnrichNamesBothSidesAndWhatIsolates(t *testing.T) {
	f := enriched(t, dropped(), demoNames())
	if f.Peers[0].Pod.Name != "intruder" || f.Peers[1].Pod.Name != "backend-v1" || f.Peers[1].Endpoint != 14 {
		t.Errorf("peers: %+v", f.Peers)
	}
	if v, _ := f.Peers[0].Labels.Get("k8s", "app"); v != "intruder" {
		t.Errorf("labels of the sender: %v", f.Peers[0].Labels)
	}
	want := []model.RuleRef{{
		Policy: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "backend"},
		Action: model.ActionDeny,
	}}
	if !reflect.DeepEqual(f.Rules[model.Ingress], want) || len(f.Rules[model.Egress]) != 0 {
		t.Errorf("rules: %+v", f.Rules)
	}
}

func TestEnrichNamesTheService(t *testing.T) {
	k := dropped()
	if f := enriched(t, k, demoNames()); f.Service.Service.String() != "demo/web" || f.Service.Port != 80 {
		t.Errorf("service: %+v", f.Service)
	}
	for _, number := range []uint32{0, 99} { // none; one that is gone
		k.Service = number
		if f := enriched(t, k, demoNames()); f.Service != (model.ServicePortKey{}) {
			t.Errorf("service %d: %+v", number, f.Service)
		}
	}
}

// Of a call that nobody serves the kernel tells no number, only whom it was for.
func TestEnrichNamesTheServiceThatNobodyServes(t *testing.T) {
	k, names := dropped(), demoNames()
	k.Service, k.Reason = 0, uint8(model.ReasonNoBackend)
	if f := enriched(t, k, names); f.Service != (model.ServicePortKey{}) {
		t.Errorf("an unknown address: %+v", f.Service)
	}
	f := enriched(t, k, names)
	want, _ := names.Service(21)
	names.Services = demoServices{addrs: map[model.FrontendKey]model.ServicePortKey{
		{Addr: f.Peers[1].Addr, Port: f.Peers[1].Port, Protocol: f.Protocol}: want,
	}}
	if f := enriched(t, k, names); f.Service != want {
		t.Errorf("service: %+v", f.Service)
	}
	k.Reason = uint8(model.ReasonPolicyDefault)
	if f := enriched(t, k, names); f.Service != (model.ServicePortKey{}) {
		t.Errorf("of a packet that was dropped for another reason: %+v", f.Service)
	}
}

func TestEnrichNamesTheRuleThatAllowed(t *testing.T) {
	k := dropped()
	k.Type, k.Reason, k.Rule = 1, 0, [2]uint32{0, 5}
	f := enriched(t, k, demoNames())
	if len(f.Rules[model.Ingress]) != 1 || f.Rules[model.Ingress][0].Rule != "ingress[0]" {
		t.Errorf("rules: %+v", f.Rules)
	}
}

// An address that passed to another pod must not lend its new owner's name to
// flows of the old one; a relabelled pod keeps its name.
func TestEnrichBelievesAPodOnlyIfItIsTheSame(t *testing.T) {
	moved := dropped()
	moved.Identity[0], moved.Slot[0] = 999, 8
	if f := enriched(t, moved, demoNames()); f.Peers[0].Pod != (model.PodKey{}) || f.Peers[0].Identity != 999 {
		t.Errorf("a flow of the address's former owner is given to %+v", f.Peers[0])
	}
	relabelled := dropped()
	relabelled.Identity[0] = 999
	if f := enriched(t, relabelled, demoNames()); f.Peers[0].Pod.Name != "intruder" || f.Peers[0].Identity != 999 {
		t.Errorf("a relabelled pod lost its name: %+v", f.Peers[0])
	}
}

// A spoofed packet is its sender's, whoever has the address it claims.
func TestEnrichNamesTheSpoofer(t *testing.T) {
	spoofed := dropped()
	spoofed.Reason, spoofed.Addr[0] = 6, addr16("10.0.0.4")
	arp := dropped()
	arp.Reason, arp.Family, arp.Proto = 8, 0, 0
	for _, k := range []weftbpf.BpfWeftFlow{spoofed, arp} {
		if f := enriched(t, k, demoNames()); f.Peers[0].Pod.Name != "intruder" {
			t.Errorf("reason %d: the sender is named %+v", k.Reason, f.Peers[0])
		}
	}
}

func TestWallTime(t *testing.T) {
	got := wallTime(90*time.Second, noon(), 100*time.Second)
	if want := noon().Add(-10 * time.Second); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
