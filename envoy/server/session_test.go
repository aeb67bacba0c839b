// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
)

// wanted is a state of routes (and listeners) with these versions.
func wanted(rev model.Revision, versions map[string]string) *state {
	s := newState(rev)
	for _, url := range order() {
		for name, v := range versions {
			if url != xds.TypeCluster {
				s.resources[0][url][name] = xds.Resource{Name: name, Version: v}
			}
		}
	}
	return s
}

// fake is a proxy: it has what it accepts, and refuses responses with a bad version.
type fake struct {
	has map[string]map[string]string // by type
}

func (f *fake) answer(r *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	if slices.ContainsFunc(r.Resources, func(r *discoveryv3.Resource) bool { return r.Version == "bad" }) {
		req.ErrorDetail = &rpcstatus.Status{Message: "bad"}
		return req
	}
	for _, res := range r.Resources {
		f.has[r.TypeUrl][res.Name] = res.Version
	}
	for _, name := range r.RemovedResources {
		delete(f.has[r.TypeUrl], name)
	}
	return req
}

// TestProxiesEndWithWhatIsWanted, whatever happens on the way: states that replace
// each other, answers that come late, new connections with what the proxy has.
func TestProxiesEndWithWhatIsWanted(t *testing.T) {
	rng := rand.New(rand.NewPCG(level.Seed(), 7))
	names := []string{"a", "b", "c", "d", "e"}
	for round := range 300 {
		proxy := &fake{has: make(map[string]map[string]string)}
		for _, url := range order() {
			proxy.has[url] = make(map[string]string)
		}
		s := connect(proxy, names)
		var want *state
		var open []*discoveryv3.DeltaDiscoveryResponse
		for step := range 40 {
			switch rng.IntN(6) {
			case 0:
				versions := make(map[string]string)
				for _, n := range names {
					if v := []string{"", "1", "2", "3", "bad"}[rng.IntN(5)]; v != "" {
						versions[n] = v
					}
				}
				want = wanted(model.Revision(step), versions)
			case 1:
				if rng.IntN(4) == 0 {
					s, open = connect(proxy, names), nil
				}
			case 2, 3:
				if want != nil {
					open = append(open, s.responses(want)...)
				}
			default:
				if len(open) > 0 {
					s.take(proxy.answer(open[0]))
					open = open[1:]
				}
			}
		}
		if want == nil {
			continue
		}
		for range 100 {
			open = append(open, s.responses(want)...)
			if len(open) == 0 {
				break
			}
			s.take(proxy.answer(open[0]))
			open = open[1:]
		}
		checkEnd(t, round, s, proxy, want)
	}
}

// connect as Envoy does: for all listeners, and for routes by name.
func connect(proxy *fake, names []string) *session {
	s := newSession(bootstrap.Proxy{}, Agent)
	for _, url := range order() {
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: make(map[string]string)}
		for n, v := range proxy.has[url] {
			req.InitialResourceVersions[n] = v
		}
		if url == xds.TypeRoute {
			req.ResourceNamesSubscribe = names
		}
		s.take(req)
	}
	return s
}

func checkEnd(t *testing.T, round int, s *session, proxy *fake, want *state) {
	t.Helper()
	if !s.settled(want) {
		t.Fatalf("round %d: not settled", round)
	}
	for _, url := range order() {
		for name, r := range want.resources[0][url] {
			got, refused := proxy.has[url][name], s.refused(url, r)
			if (r.Version == "bad") != refused || !refused && got != r.Version {
				t.Fatalf("round %d: %s is %q, refused %v; want %q", round, name, got, refused, r.Version)
			}
		}
		for name := range proxy.has[url] {
			if _, there := want.resources[0][url][name]; !there {
				t.Fatalf("round %d: %s is still there", round, name)
			}
		}
	}
	if more := s.responses(want); len(more) > 0 {
		t.Fatalf("round %d: sends on: %v", round, more)
	}
}

// TestOneBadAmongManyIsFound: all others are acknowledged in few responses.
func TestOneBadAmongManyIsFound(t *testing.T) {
	versions := make(map[string]string)
	var names []string
	for i := range 1000 {
		name := fmt.Sprintf("r%03d", i)
		names, versions[name] = append(names, name), "1"
	}
	versions["r500"] = "bad"
	proxy := &fake{has: map[string]map[string]string{xds.TypeCluster: {}, xds.TypeListener: {}, xds.TypeRoute: {}}}
	s, want, sent := connect(proxy, names), wanted(1, versions), 0
	for out := s.responses(want); len(out) > 0; out = append(out[1:], s.responses(want)...) {
		if s.take(proxy.answer(out[0])); out[0].TypeUrl == xds.TypeRoute {
			sent++
		}
	}
	checkEnd(t, 0, s, proxy, want)
	if sent > maxBatch+10 {
		t.Errorf("%d responses for 1000 routes of which one is bad", sent)
	}
}

// TestSilenceBeforeTheFirstUpdate: a proxy that has its rules must not lose them to an
// agent that does not know them yet.
func TestSilenceBeforeTheFirstUpdate(t *testing.T) {
	srv := New(xds.Options{}, filepath.Join(t.TempDir(), SnapshotFile), slog.New(slog.DiscardHandler))
	if err := srv.restore(); err == nil || srv.want != nil || srv.Status() != nil || len(srv.FaultList()) > 0 {
		t.Errorf("without a snapshot: %v", err)
	}
	srv.Update(model.Rulesets{Revision: 5, List: []model.Ruleset{{ID: 3}}})
	if srv.Acknowledged() != 0 {
		t.Error("acknowledged by nobody")
	}
	other, err := NewStandIn(srv.snapshot, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for block, of := range srv.want.resources {
		for _, url := range order() {
			for name, r := range of[url] {
				if got := other.want.resources[block][url][name]; got.Version != r.Version || string(got.Body.Value) != string(r.Body.Value) {
					t.Errorf("%s of block %d is not as it was kept", name, block)
				}
			}
			if want, got := len(of[url]), len(other.want.resources[block][url]); want != got {
				t.Errorf("of block %d, %d of %s were kept, want %d", block, got, url, want)
			}
		}
	}
	a, b := other.want.resources[0][xds.TypeListener], other.want.resources[1][xds.TypeListener]
	if a["ruleset-3"].Version == b["ruleset-3"].Version {
		t.Error("both blocks have the same ports")
	}
	if other.want.revision != 5 {
		t.Errorf("revision %d", other.want.revision)
	}
}
