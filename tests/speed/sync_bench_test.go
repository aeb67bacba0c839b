// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/rounds"
)

const (
	syncServices = 10_000
	syncBackends = 10
	syncChanges  = 100
)

func syncSource() (s state.Source) {
	for i := range syncServices {
		key := model.ServiceKey{Namespace: namespace, Name: name("s", i)}
		s.Services = append(s.Services, model.Service{ServiceKey: key, Type: model.ServiceClusterIP, ClusterIPs: []netip.Addr{clusterIP(i)},
			Ports: []model.ServicePort{{Name: "tcp", Protocol: model.ProtoTCP, Port: servicePort, TargetPort: echoPort}}})
		s.EndpointSlices = append(s.EndpointSlices, syncSlice(i, syncBackends))
	}
	return s
}

// syncSlice has the first backends of the service.
func syncSlice(i, backends int) model.EndpointSlice {
	slice := model.EndpointSlice{EndpointSliceKey: model.EndpointSliceKey{Namespace: namespace, Name: name("s", i)},
		Service: model.ServiceKey{Namespace: namespace, Name: name("s", i)},
		Ports:   []model.EndpointPort{{Name: "tcp", Protocol: model.ProtoTCP, Port: echoPort}}}
	for j := range backends {
		// No two services share a backend: that is most rows.
		n := i*(syncBackends+1) + j
		slice.Backends = append(slice.Backends, model.Backend{Addr: netip.AddrFrom4([4]byte{10, byte(128 + n>>16), byte(n >> 8), byte(n)}), Ready: true, Serving: true})
	}
	return slice
}

// BenchmarkServiceSync is 10,000 services of 10 endpoints each, from nothing; then
// one endpoint comes or goes at a time, as a watch tells it, and as a source that
// says everything anew.
func BenchmarkServiceSync(b *testing.B) {
	source := syncSource()
	started := time.Now()
	m := startMachine(b, func(t *state.Tables) {
		_, err := t.ReplaceSource(source)
		ok(b, err)
		started = time.Now()
	})
	m.wait(m.tables.Revision())
	rounds.Report(b, "cold", time.Since(started).Seconds(), "s")
	rounds.Report(b, "cold_rows", float64(m.kernel.rows), "rows")
	m.oneEndpoint(b, "one_endpoint", 1, func(slice model.EndpointSlice, at int) (model.Revision, error) {
		source.EndpointSlices[at] = slice
		return m.tables.Apply(state.Changes{Put: state.Source{EndpointSlices: []model.EndpointSlice{slice}}})
	})
	m.oneEndpoint(b, "one_endpoint_of_all", -1, func(slice model.EndpointSlice, at int) (model.Revision, error) {
		source.EndpointSlices = slices.Clone(source.EndpointSlices)
		source.EndpointSlices[at] = slice
		return m.tables.ReplaceSource(source)
	})
}

// oneEndpoint changes one slice after another, to so many endpoints more or fewer.
func (m *machine) oneEndpoint(
	b *testing.B, name string, more int, change func(slice model.EndpointSlice, at int) (model.Revision, error),
) {
	var took, rows []float64
	for i := range syncChanges {
		at := (i * 7919) % syncServices
		before := m.kernel.rows
		slice := syncSlice(at, syncBackends+more*(1-2*(i%2)))
		took = append(took, m.changed(func() (model.Revision, error) { return change(slice, at) }))
		rows = append(rows, float64(m.kernel.rows-before))
	}
	rounds.Report(b, name+"_p50", rounds.Quantile(took, 0.5), "ms")
	rounds.Report(b, name+"_p99", rounds.Quantile(took, 0.99), "ms")
	rounds.Report(b, name+"_rows", slices.Max(rows), "rows")
}
