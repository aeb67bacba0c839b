// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"

	"github.com/weftmesh/weft/agent/api"
	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
)

// l7 is what the agent has of the proxy. Each part may be nil: rules about requests
// are then compiled and explained, and connections that need a proxy are refused.
type l7 struct {
	proxy   engine.Proxy
	proxied engine.ProxiedFlows
	ready   func() (map[model.RulesetID]bool, error) // rulesets that the proxy listens for
	faults  func() []api.ProxyFault
	config  func() *agentv1.ListProxyConfigResponse
}

// rulesetStore keeps the numbers.
func (a *agent) rulesetStore() engine.RulesetStore {
	return rulesetFile{path: filepath.Join(a.cfg.StateDir, "rulesets.json")}
}

// l7API is what the agent's API tells of it.
func (a *agent) l7API() api.L7 {
	out := api.L7{Ready: a.l7.ready, Faults: a.l7.faults, Config: a.l7.config}
	if a.l7.proxy != nil {
		out.Wait = a.engine.WaitRulesets
	}
	if a.l7.proxied != nil {
		out.InUse = a.l7.proxied.RulesetsInUse
	}
	return out
}

// requestNames are what requests are explained with: of one view, as the kernel's
// flows are.
func (a *agent) requestNames() (flow.Names, flow.Rulesets) {
	view := a.engine.View()
	return view.Names, view
}
