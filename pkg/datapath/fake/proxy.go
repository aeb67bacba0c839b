// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"maps"
	"reflect"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// proxyRows is what the kernel knows of the proxy, and what tests say of it.
type proxyRows struct {
	proxy model.Proxy
	links model.RulesetLinks
	ready []model.RulesetID
	used  map[model.RulesetID]bool
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

// SetRulesetLinks keeps what rulesets have to do with each other.
func (d *Datapath) SetRulesetLinks(l model.RulesetLinks) error {
	return d.write(func() error {
		if !reflect.DeepEqual(d.proxy.links, l) {
			d.writes++
		}
		d.proxy.links = l
		return nil
	})
}

// RulesetLinks is what was set last.
func (d *Datapath) RulesetLinks() model.RulesetLinks {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.proxy.links
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
