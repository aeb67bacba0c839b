// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"sync"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/manifest"
)

// problems holds what is wrong with the manifests now.
type problems struct {
	mu   sync.Mutex
	list []manifest.Problem
}

func (p *problems) set(list []manifest.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = list
}

func (p *problems) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}

// status is the source's line in weft status.
func (p *problems) status(dir string) func() *agentv1.ComponentStatus {
	return func() *agentv1.ComponentStatus {
		p.mu.Lock()
		defer p.mu.Unlock()
		out := &agentv1.ComponentStatus{Name: "manifests", Health: agentv1.Health_HEALTH_OK, Message: dir}
		if len(p.list) > 0 {
			out.Health = agentv1.Health_HEALTH_DEGRADED
			out.Message = fmt.Sprintf("%s in %s; %s: %s", faults(len(p.list)), dir, effect(p.list[0]), p.list[0])
		}
		return out
	}
}

func faults(n int) string {
	if n == 1 {
		return "a fault"
	}
	return fmt.Sprintf("%d faults", n)
}

// effect is what a fault does to what its file says.
func effect(p manifest.Problem) string {
	if p.Kept {
		return "the file's last good content stays in force"
	}
	return "nothing of the file is in force"
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
