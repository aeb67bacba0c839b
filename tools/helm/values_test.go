// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// read decodes a file of the repository.
func read(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func values(t *testing.T) (v map[string]any) {
	t.Helper()
	read(t, filepath.Join(chart, "values.yaml"), &v)
	return v
}

// leaves calls see for each value and folder of values but the root.
func leaves(v map[string]any, path []string, see func(path []string, v any)) {
	for k, x := range v {
		at := append(slices.Clone(path), k)
		see(at, x)
		if m, ok := x.(map[string]any); ok {
			leaves(m, at, see)
		}
	}
}

// nest is {a: {b: v}} for the path a, b.
func nest(t *testing.T, path []string, v any) string {
	t.Helper()
	for _, k := range slices.Backward(path) {
		v = map[string]any{k: v}
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestValuesAreFewAndDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	leaves(values(t), nil, func(path []string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			return
		}
		n++
		name := strings.Join(path, ".")
		for _, inner := range []string{".requests.", ".limits."} { // of Kubernetes, documented there
			name, _, _ = strings.Cut(name, inner)
		}
		if !strings.Contains(string(doc), "| `"+name+"` |") {
			t.Errorf("docs/CONFIGURATION.md has no row for the value %s", name)
		}
	})
	if n >= 40 {
		t.Errorf("%d values; fewer than 40 are wanted", n)
	}
}

func TestMisspeltValuesAreRefusedByName(t *testing.T) {
	check := func(path []string) {
		t.Helper()
		_, errs, err := run(t, nest(t, path, 1), "template", "weft", chart)
		if err == nil || !strings.Contains(errs, "'"+path[len(path)-1]+"' not allowed") {
			t.Errorf("%s is not refused by name: %v %s", strings.Join(path, "."), err, errs)
		}
	}
	check([]string{"cluserName"})
	leaves(values(t), nil, func(path []string, v any) {
		if _, ok := v.(map[string]any); ok {
			check(append(slices.Clone(path), "misspelt"))
		}
	})
}

func TestValuesOfTheWrongKindAreRefused(t *testing.T) {
	leaves(values(t), nil, func(path []string, v any) {
		if _, errs, err := run(t, nest(t, path, map[string]any{"wrong": []any{}}), "template", "weft", chart); err == nil ||
			!strings.Contains(errs, "'/"+strings.Join(path, "/")) {
			t.Errorf("%s: an object is not refused: %v %s", strings.Join(path, "."), err, errs)
		}
	})
	for _, bad := range []string{
		"logLevel: loud", "mtu: 600", "tunnel: {protocol: geneve}", "tunnel: {protocol: vxlan, port: 70000}", "operator: {replicas: 0}", "clusterCIDRs: []", "clusterCIDRs: [pods]",
		"apiServer: {host: 'https://x'}", "cni: {binDir: opt/cni}", "image: {pullPolicy: Sometimes}", "agent: {maxUnavailable: 0}",
		"envoy: {enabled: 'yes'}", "envoy: {image: 'https://x/envoy'}", "envoy: {image: ''}", "agent: {metricsAddress: ''}", "agent: {metricsAddress: '9465'}", "operator: {metricsAddress: 'localhost:9466'}", "operator: {metricsAddress: ':70000'}",
	} {
		if _, _, err := run(t, bad, "template", "weft", chart); err == nil {
			t.Errorf("%s is not refused", bad)
		}
	}
}

// TestOddValuesDifferFromDefaults keeps the odd values whole: each counts.
func TestOddValuesDifferFromDefaults(t *testing.T) {
	var other map[string]any
	if err := yaml.Unmarshal([]byte(odd), &other); err != nil {
		t.Fatal(err)
	}
	leaves(values(t), nil, func(path []string, v any) {
		got := any(other)
		for _, k := range path {
			m, _ := got.(map[string]any)
			got = m[k]
		}
		if _, ok := v.(map[string]any); !ok && (got == nil || reflect.DeepEqual(got, v)) {
			t.Errorf("%s: odd values have %v", strings.Join(path, "."), got)
		}
	})
}

// TestConfiguration compares what agents and operators read with files that a test
// of package config reads as they do.
func TestConfiguration(t *testing.T) {
	for name, v := range map[string]string{"default": "", "odd": odd} {
		got := named[*corev1.ConfigMap](t, render(t, v), "weft-config").Data["config.yaml"]
		golden := "testdata/config-" + name + ".yaml"
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what the chart makes (UPDATE=1 go test writes it):\n%s", golden, got)
		}
	}
}
