// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/weftmesh/weft/agent/publish"
)

// proxyFaults are what the cluster is told of the proxy; false: not all is known now.
func (a *agent) proxyFaults() ([]publish.Fault, bool) {
	if a.l7.faults == nil {
		return nil, true
	}
	var list []publish.Fault
	for _, f := range a.l7.faults() {
		list = append(list, publish.Fault{Policy: f.Policy, Text: f.Text})
	}
	return list, a.proxy.server.Settled()
}

// followProxyFaults has the node's status looked at again when they change.
func (a *agent) followProxyFaults(ctx context.Context) error {
	var before []publish.Fault
	settled := false
	for {
		changed := a.proxy.server.Changed()
		if list, known := a.proxyFaults(); known != settled || !slices.Equal(list, before) {
			before, settled = list, known
			a.engine.Realized().Touch()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
