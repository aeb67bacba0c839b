// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/weftmesh/weft/agent/api"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// fault is one thing that is wrong with what the source says, and what follows.
type fault struct {
	text, effect string
	object       model.PolicyKey // what it is in, if that is known
	source, what string          // where the object is, and text without what that and object say
}

// problems holds what is wrong with what the source says now.
type problems struct {
	mu   sync.Mutex
	list []fault
}

func (p *problems) set(list []fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = list
}

func (p *problems) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}

// ofPolicies are the faults of policies, by key: of each the first, with what follows.
func (p *problems) ofPolicies() map[model.PolicyKey]api.PolicyFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[model.PolicyKey]api.PolicyFault)
	for _, f := range p.list {
		if _, told := out[f.object]; !told && isPolicy(f.object) {
			out[f.object] = api.PolicyFault{Source: f.source, Message: f.effect + ": " + f.what}
		}
	}
	return out
}

func isPolicy(k model.PolicyKey) bool {
	return k.Name != "" && (k.Kind == netpol.Kind || k.Kind == v1alpha1.KindNetworkPolicy || k.Kind == v1alpha1.KindClusterNetworkPolicy)
}

// status is the source's line in weft status: its name, what it is, and why it does
// not work.
func (p *problems) status(source func() (name, message string, err error)) func() *agentv1.ComponentStatus {
	return func() *agentv1.ComponentStatus {
		p.mu.Lock()
		defer p.mu.Unlock()
		name, message, err := source()
		out := &agentv1.ComponentStatus{Name: name, Health: agentv1.Health_HEALTH_OK, Message: message}
		if err != nil {
			out.Health, out.Message = agentv1.Health_HEALTH_DEGRADED, err.Error()
		}
		if len(p.list) > 0 {
			out.Health = agentv1.Health_HEALTH_DEGRADED
			out.Message = fmt.Sprintf("%s, with %s; %s: %s", out.Message, countOf(len(p.list), "fault"), p.list[0].effect, p.list[0].text)
		}
		return out
	}
}

func countOf(n int, what string) string {
	if n == 1 {
		return "a " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// uplinkStatus is the line of the way out in weft status.
func (a *agent) uplinkStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "uplinks", Health: agentv1.Health_HEALTH_OK, Message: a.uplinks.Describe()}
	if faults := a.uplinks.Faults(); len(faults) > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = strings.Join(append(faults, out.Message), "; ")
	}
	return out
}

// tunnelStatus is the line of the tunnel in weft status.
func (a *agent) tunnelStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "tunnel", Health: agentv1.Health_HEALTH_OK, Message: a.tunnel.Describe()}
	larger := 0
	for _, e := range a.engine.View().Endpoints {
		if e.MTU > a.tunnel.MTU() {
			larger++
		}
	}
	if larger > 0 {
		out.Message += fmt.Sprintf("; %s attached before with a larger one", countOf(larger, "pod"))
	}
	if faults := a.tunnel.Faults(); len(faults) > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = fmt.Sprintf("%s; %s: %s", out.Message, countOf(len(faults), "fault"), faults[0])
	}
	return out
}
