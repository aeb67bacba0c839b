// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strconv"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/manifest"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// The small types here let components that do not know each other meet.

// manifestSink writes what the manifest folder says into the tables.
type manifestSink struct {
	tables   *state.Tables
	problems *problems
}

// Apply implements manifest.Consumer.
func (s manifestSink) Apply(m manifest.State) error {
	faults := make([]fault, len(m.Problems))
	for i, p := range m.Problems {
		faults[i] = fault{text: p.String(), effect: "nothing of the file is in force", object: model.PolicyKey(p.Object), source: p.File}
		p.File = "line " + strconv.Itoa(p.Line)
		p.Line = 0
		faults[i].what = p.String()
		if p.Kept {
			faults[i].effect = "the file's last good content stays in force"
		}
	}
	s.problems.set(faults)
	_, err := s.tables.ReplaceSource(state.Source{
		Pods: m.Pods, Namespaces: m.Namespaces, Services: m.Services,
		EndpointSlices: m.EndpointSlices, Policies: m.Policies,
	})
	return err
}

// endpointTable is the table of endpoints as the CNI server writes it.
type endpointTable struct{ tables *state.Tables }

// Upsert implements cniserver.Endpoints.
func (t endpointTable) Upsert(ep model.Endpoint) error {
	_, err := t.tables.UpsertEndpoint(ep)
	return err
}

// Delete implements cniserver.Endpoints.
func (t endpointTable) Delete(id uint32) error {
	_, err := t.tables.DeleteEndpoint(id)
	return err
}

// realizer waits for the kernel on behalf of the CNI server.
type realizer struct {
	tables   *state.Tables
	realized *engine.Realized
}

// WaitEndpoint implements cniserver.Realizer.
func (r realizer) WaitEndpoint(ctx context.Context, id uint32) (model.Revision, error) {
	return r.realized.WaitEndpoint(ctx, id, r.tables.Revision())
}
