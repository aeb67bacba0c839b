// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// cluster answers for WeftNodes; without ranges there is none.
type cluster struct {
	ranges atomic.Pointer[[]string]
	asked  atomic.Int32
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.asked.Add(1)
	ranges := c.ranges.Load()
	if ranges == nil {
		if c.asked.Load() > 1 {
			c.ranges.Store(&[]string{"fd00:7::/64", "10.244.7.0/24"}) // the operator comes
		}
		http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v1alpha1.WeftNode{TypeMeta: metav1.TypeMeta{APIVersion: "weftmesh.io/v1alpha1", Kind: "WeftNode"},
		ObjectMeta: metav1.ObjectMeta{Name: path.Base(r.URL.Path)}, Spec: v1alpha1.NodeSpec{PodCIDRs: *ranges}})
}

func nodeOf(t *testing.T, dir, url string) *agent {
	t.Helper()
	client, err := k8s.NewClient(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{NodeName: "n", StateDir: dir, Kubernetes: config.Kubernetes{Enabled: true}}
	return &agent{cfg: cfg, log: slog.New(slog.DiscardHandler), client: client}
}

func TestPodRangesComeFromTheNodeAndAreRemembered(t *testing.T) {
	dir, api := t.TempDir(), &cluster{}
	server := httptest.NewServer(api)
	want := []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:7::/64")}
	got, err := nodeOf(t, dir, server.URL).podRanges(t.Context())
	if err != nil || !slices.Equal(got, want) || api.asked.Load() != 3 {
		t.Errorf("a new node has %v, %v, after %d questions", got, err, api.asked.Load())
	}
	server.Close()
	if got, err = nodeOf(t, dir, server.URL).podRanges(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("without the API server it has %v, %v", got, err)
	}
}

func TestOtherPodRangesEndTheAgent(t *testing.T) {
	dir := t.TempDir()
	a := nodeOf(t, dir, "http://127.0.0.1:1")
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	a.tables, a.ranges = tables, []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}
	next := []netip.Prefix{netip.MustParsePrefix("10.244.8.0/24")}
	nodes := []model.ClusterNode{{Name: "m", PodCIDRs: next}, {Name: "n", PodCIDRs: next}}
	if _, err := tables.Apply(state.Changes{Put: state.Source{Nodes: nodes}, Synced: true}); err != nil {
		t.Fatal(err)
	}
	if err := a.followRanges(t.Context()); err == nil || !strings.Contains(err.Error(), "from [10.244.7.0/24] to [10.244.8.0/24]") {
		t.Errorf("ended with %v", err)
	}
	if known, err := a.knownRanges(); err != nil || !slices.Equal(known, next) {
		t.Errorf("remembered are %v, %v", known, err)
	}
}

func TestPodRangesOutsideOfTheClusterAreAFault(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:7::/64")}
	for cluster, want := range map[string]string{
		"10.244.0.0/16 fd00::/16":  "",
		"10.0.0.0/8 fd00:7::/64":   "",
		"10.244.0.0/16 fd01::/16":  "the pod range fd00:7::/64 is in none of clusterCIDRs [10.244.0.0/16 fd01::/16]",
		"10.244.7.0/25 fd00::/16":  "the pod range 10.244.7.0/24 is in none",
		"10.245.0.0/16 0.0.0.0/32": "the pod range 10.244.7.0/24 is in none",
	} {
		a := &agent{ranges: own}
		for _, c := range strings.Fields(cluster) {
			a.cfg.ClusterCIDRs = append(a.cfg.ClusterCIDRs, netip.MustParsePrefix(c))
		}
		got := a.rangesStatus()
		if bad := got.GetHealth() == agentv1.Health_HEALTH_DEGRADED; bad != (want != "") || !strings.Contains(got.GetMessage(), want) {
			t.Errorf("%s: %v, want %q", cluster, got, want)
		}
	}
}
