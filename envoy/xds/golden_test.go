// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cases are the rulesets in testdata, by name.
func cases(t *testing.T) map[string]model.Rulesets {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	out := make(map[string]model.Rulesets)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var in model.Rulesets
		if err := yaml.UnmarshalStrict(text, &in); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".in.yaml")] = in
	}
	return out
}

func TestGolden(t *testing.T) {
	for name, in := range cases(t) {
		t.Run(name, func(t *testing.T) {
			got := show(t, in)
			file := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; go test -update writes it anew\n%s", file, got)
			}
		})
	}
}

// show writes what a ruleset becomes; clusters are the same in all cases.
func show(t *testing.T, in model.Rulesets) []byte {
	t.Helper()
	resources, faults := Translate(in, Options{})
	out := make(map[string]any)
	for _, kind := range []string{TypeListener, TypeRoute} {
		var list []any
		for _, r := range resources[kind] {
			m, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, plain(t, m))
		}
		out[kind[strings.LastIndex(kind, ".")+1:]] = list
	}
	for _, f := range faults {
		out["Faults"] = append(asList(out["Faults"]), f.Error())
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func asList(v any) []any { l, _ := v.([]any); return l }

func plain(t *testing.T, m proto.Message) (v any) {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestEnvoyAcceptsThem has the real Envoy read every case, with the routes in the
// listeners, as nobody serves them.
func TestEnvoyAcceptsThem(t *testing.T) {
	envoy, err := sandbox.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	all := cases(t)
	for name, o := range map[string]Options{"transparent": {}, "without IPv6": {NoIPv6: true}, "few records": {LogEvery: 100}, "direct": {Block: 1, Backend: netip.MustParseAddrPort("127.0.0.1:80")}} {
		var in model.Rulesets
		for _, c := range all {
			for _, rs := range c.List {
				rs.ID = model.RulesetID(len(in.List) + 1)
				in.List = append(in.List, rs)
			}
		}
		file := filepath.Join(t.TempDir(), name+".json")
		text, err := protojson.Marshal(static(t, in, o))
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "-l", "warn").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// static is a bootstrap that holds everything.
func static(t *testing.T, in model.Rulesets, o Options) *bootstrapv3.Bootstrap {
	t.Helper()
	resources, _ := Translate(in, o)
	routes := make(map[string]*routev3.RouteConfiguration)
	for _, r := range resources[TypeRoute] {
		routes[r.Name] = unpack(t, r, &routev3.RouteConfiguration{})
		routes[r.Name].ValidateClusters = nil
	}
	s := &bootstrapv3.Bootstrap_StaticResources{}
	for _, r := range resources[TypeCluster] {
		s.Clusters = append(s.Clusters, unpack(t, r, &clusterv3.Cluster{}))
	}
	als := nowhere()
	als.Name, als.LoadAssignment.ClusterName = ALSCluster, ALSCluster
	als.TypedExtensionProtocolOptions = nil
	s.Clusters = append(s.Clusters, als)
	for _, r := range resources[TypeListener] {
		l := unpack(t, r, &listenerv3.Listener{})
		for _, c := range l.FilterChains {
			inline(t, c, routes[r.Name])
		}
		s.Listeners = append(s.Listeners, l)
	}
	return &bootstrapv3.Bootstrap{StaticResources: s}
}

func unpack[M proto.Message](t *testing.T, r Resource, m M) M {
	t.Helper()
	if err := r.Body.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func inline(t *testing.T, c *listenerv3.FilterChain, routes *routev3.RouteConfiguration) {
	t.Helper()
	for _, f := range c.Filters {
		hcm := &hcmv3.HttpConnectionManager{}
		if !f.GetTypedConfig().MessageIs(hcm) {
			continue
		}
		if err := f.GetTypedConfig().UnmarshalTo(hcm); err != nil {
			t.Fatal(err)
		}
		hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: toAny(hcm)}
	}
}

// TestTheSameComesOutAgain: an agent that starts again must push nothing.
func TestTheSameComesOutAgain(t *testing.T) {
	for name, in := range cases(t) {
		first, _ := Translate(in, Options{})
		for range 5 {
			again, _ := Translate(in, Options{})
			if fmt.Sprint(versions(first)) != fmt.Sprint(versions(again)) {
				t.Errorf("%s: versions differ", name)
			}
		}
	}
}

func TestWithoutIPv6NothingListensOnIt(t *testing.T) {
	for _, no := range []bool{false, true} {
		resources, _ := Translate(model.Rulesets{List: []model.Ruleset{{ID: 1}}}, Options{NoIPv6: no})
		l := unpack(t, resources[TypeListener][0], &listenerv3.Listener{})
		if got := len(l.AdditionalAddresses); got != 1 && !no || got != 0 && no {
			t.Errorf("without IPv6 %v: %d further addresses", no, got)
		}
	}
}

func versions(rs Resources) map[string]string {
	out := make(map[string]string)
	for kind, list := range rs {
		for _, r := range list {
			out[kind+"/"+r.Name] = r.Version
		}
	}
	return out
}
