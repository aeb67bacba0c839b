// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/level"
)

// randomServices are up to three services with up to five backends each.
func randomServices(random *rand.Rand) (services []model.Service, all []model.EndpointSlice) {
	for i := range 3 {
		if random.IntN(4) == 0 {
			continue
		}
		s := model.Service{
			ServiceKey: model.ServiceKey{Namespace: "demo", Name: fmt.Sprintf("svc-%d", i)}, Type: model.ServiceClusterIP,
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})},
			Ports:      []model.ServicePort{{Name: "http", Protocol: model.ProtoTCP, Port: 80, TargetPort: 8080}},
		}
		if random.IntN(8) == 0 {
			s.Affinity = time.Hour
		}
		slice := model.EndpointSlice{
			EndpointSliceKey: model.EndpointSliceKey{Namespace: "demo", Name: s.Name}, Service: s.ServiceKey,
			Ports: []model.EndpointPort{{Name: "http", Protocol: model.ProtoTCP, Port: 8080}},
		}
		for b := range random.IntN(6) {
			state := random.IntN(4)
			slice.Backends = append(slice.Backends, model.Backend{Addr: netip.AddrFrom4([4]byte{10, 244, 1, byte(b)}),
				Ready: state > 1, Serving: state > 0, Terminating: state == 1})
		}
		services, all = append(services, s), append(all, slice)
	}
	return services, all
}

// Through changes and failures no row is ever written before what it leads to,
// nor removed after it (the fake kernel refuses that), and in the end the kernel
// holds what one that never failed holds.
func TestServicesThroughChangesAndFailures(t *testing.T) {
	for seed := range uint64(level.Scale(1000)) {
		dp, calm := fake.New(), fake.New()
		dp.FailAtRandom(seed, 0.3)
		w, quiet := newWorld(t, dp), newWorld(t, calm)
		random := rand.New(rand.NewPCG(seed, 7))
		for range 25 {
			w.source.Services, w.source.EndpointSlices = randomServices(random)
			w.apply()
			w.step()
			for kind, errs := range w.engine.realized.Failing() {
				for _, err := range errs {
					if !errors.Is(err, fake.ErrInjected) {
						t.Fatalf("seed %d: %s: %v", seed, kind, err)
					}
				}
			}
		}
		w.settle()
		quiet.source = w.source
		quiet.apply()
		quiet.settle()
		got, err := dp.Services()
		if err != nil {
			t.Fatal(err)
		}
		want, err := calm.Services()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: the kernel holds\n%+v\nwant\n%+v", seed, got, want)
		}
	}
}

func TestARestartedAgentLeavesServicesAlone(t *testing.T) {
	dp := fake.New()
	w := newWorld(t, dp)
	w.source.Services, w.source.EndpointSlices = randomServices(rand.New(rand.NewPCG(5, 5)))
	w.apply()
	w.settle()
	before := dp.Writes()
	again := newWorld(t, dp)
	again.source = w.source
	again.apply()
	again.settle()
	if n := dp.Writes() - before; n != 0 {
		t.Errorf("%d writes of what was right already", n)
	}
}

// A service changes where nothing else does: what was compiled of policies stands,
// only the service's rows are written, and what else the kernel has lost is mended.
func TestAServiceThatChangesIsAllThatIsCompiled(t *testing.T) {
	w := newWorld(t, fake.New())
	w.source = scene()
	w.source.Services, w.source.EndpointSlices = randomServices(rand.New(rand.NewPCG(5, 5)))
	w.apply()
	w.identities()
	w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
	w.settle()
	before, writes := w.engine.View(), w.dp.Writes()
	slice := w.source.EndpointSlices[0]
	slice.Backends = []model.Backend{{Addr: netip.MustParseAddr("10.244.1.99"), Ready: true, Serving: true}}
	w.must(w.tables.Apply(state.Changes{Put: state.Source{EndpointSlices: []model.EndpointSlice{slice}}}))
	w.settle()
	after := w.engine.View()
	if &before.Endpoints[0] != &after.Endpoints[0] {
		t.Error("policies were compiled again")
	}
	if after.Revision != w.tables.Revision() || before.Services == after.Services || after.Names.Services != after.Services {
		t.Errorf("the view is of revision %d, want %d, with the services of now", after.Revision, w.tables.Revision())
	}
	if n := w.dp.Writes() - writes; n == 0 || n > 8 {
		t.Errorf("%d writes for one endpoint", n)
	}
	if err := w.dp.DeleteEndpoint(1); err != nil {
		t.Fatal(err)
	}
	w.engine.compare()
	w.must(w.tables.Apply(state.Changes{Gone: state.Gone{Services: []model.ServiceKey{slice.Service}}}))
	w.settle()
	if d := differences(dump(t, w.dp), w.desired()); d != "" {
		t.Errorf("the kernel is not as the tables want:%s", d)
	}
	w.must(w.tables.Apply(state.Changes{Gone: state.Gone{Policies: []model.PolicyKey{w.source.Policies[0].Key}}}))
	w.settle()
	if now := w.engine.View(); &now.Endpoints[0] == &after.Endpoints[0] || len(now.Policies) == len(after.Policies) {
		t.Error("a policy went, and nothing was compiled")
	}
}
