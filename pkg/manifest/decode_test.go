// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// TestMessages compares what is said about each file in testdata/bad with the
// .want file beside it. To accept new messages: WEFT_UPDATE=1 go test.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if filepath.Ext(path) == ".want" {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, problems := Decode(filepath.Base(path), data)
			var b strings.Builder
			for _, p := range problems {
				b.WriteString(p.String() + "\n")
			}
			compareGolden(t, strings.TrimSuffix(path, filepath.Ext(path))+".want", b.String())
		})
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("WEFT_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) || got == "" {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDecodeWorkloadsAndServices(t *testing.T) {
	data, err := os.ReadFile("testdata/good/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, problems := Decode("all.yaml", data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	const src = "all.yaml"
	key := model.ServiceKey{Namespace: "shop", Name: "web"}
	want := State{
		Pods: []model.Pod{
			{PodKey: model.PodKey{Namespace: "default", Name: "lone"}, ServiceAccount: "default", HostNetwork: true, Source: src},
			{PodKey: model.PodKey{Namespace: "shop", Name: "frontend"}, ServiceAccount: "web", Source: src,
				Labels: map[string]string{"app": "frontend", "version": "1"},
				Ports:  []model.NamedPort{{Name: "admin", Protocol: 6, Port: 9000}, {Name: "dns", Protocol: 17, Port: 53}, {Name: "http", Protocol: 6, Port: 8080}}},
		},
		Namespaces: []model.Namespace{
			{Name: "default", Labels: map[string]string{"kubernetes.io/metadata.name": "default"}},
			{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop", "team": "red"}, Source: src},
		},
		Services: []model.Service{{
			ServiceKey: key, Type: model.ServiceLoadBalancer, Source: src,
			ClusterIPs:      []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::10")},
			LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			Affinity:        3 * time.Hour, ExternalLocal: true,
			Ports: []model.ServicePort{
				{Name: "http", Protocol: 6, Port: 80, TargetName: "http", NodePort: 30080},
				{Name: "dns", Protocol: 17, Port: 53, TargetPort: 53},
			},
		}},
		EndpointSlices: []model.EndpointSlice{{
			EndpointSliceKey: model.EndpointSliceKey{Namespace: "shop", Name: "web-1"}, Service: key, Source: src,
			Ports: []model.EndpointPort{{Name: "http", Protocol: 6, Port: 8080}},
			Backends: []model.Backend{
				{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Serving: true, Zone: "a",
					Pod: model.PodKey{Namespace: "shop", Name: "frontend"}},
				{Addr: netip.MustParseAddr("10.0.0.2"), Serving: true, Terminating: true},
			},
		}},
	}
	if got := build(objects); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// lineBreak is what YAML takes for the end of a line.
var lineBreak = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := Decode("f.yaml", data)
		for _, p := range problems {
			if p.Message == "" || p.File != "f.yaml" || p.Line < 0 || p.Line > 1+len(lineBreak.FindAll(data, -1)) {
				t.Errorf("poor problem %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		seen := map[Key]bool{}
		for _, o := range objects {
			if o.Key.Name == "" || o.Key.Kind == "" || seen[o.Key] {
				t.Errorf("poor key %+v", o.Key)
			}
			seen[o.Key] = true
		}
	})
}
