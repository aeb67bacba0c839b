// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// proxyRows is what the kernel knows of the proxy, and what tests say of it.
type proxyRows struct {
	proxy      model.Proxy
	successors map[model.RulesetID]model.RulesetID
	ready      []model.RulesetID
	used       map[model.RulesetID]bool
}

// SetProxy keeps what the kernel is to know.
func (d *Datapath) SetProxy(p model.Proxy) error {
	return d.write(func() error {
		if d.proxy.proxy != p {
			d.writes++
		}
		d.proxy.proxy = p
		return nil
	})
}

// Proxy is what was set last.
func (d *Datapath) Proxy() model.Proxy {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.proxy.proxy
}

// SetRulesetSuccessors keeps the pairs that hold for good.
func (d *Datapath) SetRulesetSuccessors(as, _ map[model.RulesetID]model.RulesetID) error {
	return d.write(func() error {
		if !maps.Equal(d.proxy.successors, as) {
			d.writes++
		}
		d.proxy.successors = maps.Clone(as)
		return nil
	})
}

// RulesetSuccessors are the pairs that were set last.
func (d *Datapath) RulesetSuccessors() map[model.RulesetID]model.RulesetID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.proxy.successors)
}

// Listen makes the rulesets that the proxy listens for.
func (d *Datapath) Listen(ready ...model.RulesetID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.proxy.ready = slices.Sorted(slices.Values(ready))
}

// ReadyRulesets are those of Listen.
func (d *Datapath) ReadyRulesets() ([]model.RulesetID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.proxy.ready), nil
}

// Use makes the rulesets that connections have.
func (d *Datapath) Use(used ...model.RulesetID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.proxy.used = make(map[model.RulesetID]bool, len(used))
	for _, id := range used {
		d.proxy.used[id] = true
	}
}

// RulesetsInUse are those of Use.
func (d *Datapath) RulesetsInUse() (map[model.RulesetID]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := maps.Clone(d.proxy.used)
	if used == nil {
		used = make(map[model.RulesetID]bool)
	}
	return used, nil
}
