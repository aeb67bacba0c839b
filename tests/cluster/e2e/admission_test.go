// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// refusal is a field that docs/POLICY.md calls refused, with what to do instead.
type refusal struct{ field, remedy string }

var refusedRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| refused \\| .* Instead: (.*)\\. \\|$")

// refusals are all rows of the table of fields.
func refusals(t *testing.T, repository string) []refusal {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, "docs/POLICY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []refusal
	for _, m := range refusedRow.FindAllStringSubmatch(string(content), -1) {
		all = append(all, refusal{m[1], m[2]})
	}
	if len(all) < 20 {
		t.Fatalf("docs/POLICY.md names %d refused fields", len(all))
	}
	return all
}

// value is one that the field may have by its type.
func value(field string) any {
	values := map[string]any{
		"nodeSelector": map[string]any{}, "fromRequires": []any{map[string]any{}}, "toRequires": []any{map[string]any{}},
		"cidrGroupRef": "group", "cidrGroupSelector": map[string]any{}, "fromNodes": []any{map[string]any{}}, "toNodes": []any{map[string]any{}},
		"fromGroups": []any{map[string]any{}}, "toGroups": []any{map[string]any{}}, "toServices": []any{map[string]any{}},
		"terminatingTLS": map[string]any{"secret": map[string]any{"name": "x"}}, "originatingTLS": map[string]any{"secret": map[string]any{"name": "x"}},
		"kafka": []any{map[string]any{"topic": "x"}}, "dns": []any{map[string]any{"matchName": "a.example"}}, "l7proto": "x", "l7": []any{map[string]any{"a": "b"}},
		"secret":   map[string]any{"name": "x"},
		"listener": map[string]any{"name": "x", "envoyConfig": map[string]any{"name": "x"}}, "authentication": map[string]any{"mode": "required"},
		"toFQDNs": []any{map[string]any{"matchName": "a.example"}}, "log": map[string]any{"value": "x"},
	}
	return values[field]
}

// object has the field, and what its parents need.
func object(path string, v any) map[string]any {
	first, rest, deeper := strings.Cut(path, ".")
	name, list := strings.CutSuffix(first, "[]")
	if deeper {
		v = object(rest, v)
		switch under := v.(map[string]any); {
		case name == "headerMatches":
			under["name"] = "x"
		case name == "toPorts":
			under["ports"] = []any{map[string]any{"port": "80", "protocol": "TCP"}}
		case strings.HasSuffix(name, "CIDRSet") && under["cidr"] == nil && under["cidrGroupSelector"] == nil && under["cidrGroupRef"] == nil:
			under["cidr"] = "192.0.2.0/24"
		}
	}
	if list {
		v = []any{v}
	}
	return map[string]any{name: v}
}

// create asks the API server for a policy, without making it; the error is its answer.
func (w *world) create(kind string, spec map[string]any) error {
	w.T.Helper()
	if _, ok := spec["nodeSelector"]; !ok {
		spec["endpointSelector"] = map[string]any{}
	}
	o := map[string]any{"apiVersion": "weftmesh.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": "tried"}, "spec": spec}
	if kind == "WeftNetworkPolicy" {
		o["metadata"] = map[string]any{"name": "tried", "namespace": "default"}
	}
	content, err := json.Marshal(o)
	if err != nil {
		w.T.Fatal(err)
	}
	file := filepath.Join(w.T.TempDir(), "policy.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		w.T.Fatal(err)
	}
	_, err = w.Cluster.Kubectl(w.T.Context(), "create", "--dry-run=server", "-f", file)
	return err
}

func TestTheAPIServerRefusesEveryFieldThatIsNotSupported(t *testing.T) {
	w := installed(t)
	for _, r := range refusals(t, w.Repository()) {
		parts := strings.Split(r.field, ".")
		last := parts[len(parts)-1]
		v := value(last)
		if v == nil {
			t.Errorf("%s: this test has no value for it", r.field)
			continue
		}
		kinds := []string{"WeftNetworkPolicy", "WeftClusterNetworkPolicy"}
		for _, kind := range kinds {
			err := w.create(kind, object(r.field, v))
			if err == nil {
				t.Errorf("%s: %s is taken", kind, r.field)
				continue
			}
			where := "spec"
			if len(parts) > 1 {
				where += "." + strings.ReplaceAll(strings.TrimSuffix(strings.Join(parts[:len(parts)-1], "."), "[]"), "[]", "[0]")
			}
			said := []string{where, last, "; " + strings.Fields(r.remedy)[0] + " "}
			if last == "secret" { // too deep for a rule: it has no room for anything
				said = []string{where + "[0].secret", "at most 0"}
			}
			if err := framework.Wants(err.Error(), said...); err != nil {
				t.Errorf("%s: %s: %v", kind, r.field, err)
			}
		}
	}
}

func TestTheAPIServerRefusesWhatCannotBeMeant(t *testing.T) {
	w := installed(t)
	for _, c := range []struct{ spec, where, why string }{
		{`{"ingress":[{"fromEndpoints":[{}],"fromCIDR":["192.0.2.0/24"]}]}`, "spec.ingress[0]", "write a rule for each"},
		{`{"egressDeny":[{"toEntities":["world"],"toCIDRSet":[{"cidr":"192.0.2.0/24"}]}]}`, "spec.egressDeny[0]", "write a rule for each"},
		{`{"ingress":[{"toPorts":[{"ports":[]}]}]}`, "spec.ingress[0].toPorts[0].ports", "at least 1"},
		{`{"egress":[{"toEntities":["everybody"]}]}`, "spec.egress[0].toEntities[0]", "supported values"},
		{`{"egress":[{"toPorts":[{"ports":[{"port":"80","protocol":"HTTP"}]}]}]}`, "spec.egress[0].toPorts[0].ports[0].protocol", "supported values"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"70000"}]}]}]}`, "spec.ingress[0].toPorts[0].ports[0].port", "70000"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"90","endPort":80}]}]}]}`, "ingress[].toPorts[].ports[].endPort", "must not be below port"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{}}]}]}`, "spec.ingress[0].toPorts[0].rules", "rules are of one of the kinds"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{}]},"serverNames":["a"]}]}]}`, "spec.ingress[0].toPorts[0]", "write an item of toPorts for each"},
		{`{"ingressDeny":[{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{}]}}]}]}`, "spec.ingressDeny[0].toPorts[0].rules", "unknown field"},
		{`{"ingress":[{"fromCIDR":["300.0.0.0/8"]}]}`, "spec.ingress[0].fromCIDR[0]", "300.0.0.0/8"},
		{`{"egress":[{"toEndpoint":[{}]}]}`, "spec.egress[0].toEndpoint", "unknown field"},
		{`{}`, "spec", "one of ingress, ingressDeny, egress and egressDeny is needed"},
	} {
		err := w.create("WeftNetworkPolicy", decoded(t, c.spec))
		if err == nil {
			t.Errorf("%s is taken", c.spec)
			continue
		}
		if err := framework.Wants(err.Error(), c.where, c.why); err != nil {
			t.Errorf("%s: %v", c.spec, err)
		}
	}
}

func decoded(t *testing.T, content string) map[string]any {
	t.Helper()
	var spec map[string]any
	if err := json.Unmarshal([]byte(content), &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// What a schema may not look into, because of what it would cost the API server, is told
// by the condition.
func TestTheConditionTellsWhatTheSchemaCannot(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-bad", "")
	bad := []struct{ spec, where, why string }{
		{`{"ingress":[{"fromCIDR":["fd00:::/8"]}]}`, "spec.ingress[0].fromCIDR[0]", "fd00:::/8"},
		{`{"egress":[{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["192.0.2.0/24"]}]}]}`, "spec.egress[0].toCIDRSet[0].except[0]", "is not inside 10.0.0.0/8; name a prefix that is, or remove it"},
		{`{"egress":[{"icmps":[{"fields":[{"type":"Ping"}]}]}]}`, "spec.egress[0].icmps[0].fields[0]", "Ping"},
	}
	for i, c := range bad {
		spec := decoded(t, c.spec)
		spec["endpointSelector"] = map[string]any{}
		content, err := json.Marshal(map[string]any{"apiVersion": "weftmesh.io/v1alpha1", "kind": "WeftNetworkPolicy",
			"metadata": map[string]any{"namespace": "e2e-bad", "name": fmt.Sprintf("bad-%d", i)}, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		w.Apply(string(content))
	}
	for i, c := range bad {
		what := fmt.Sprintf("wnp bad-%d -n e2e-bad", i)
		w.Kubectl("wait --for=condition=Valid=False " + what + " --timeout=20s")
		if err := framework.Wants(w.Kubectl("get "+what+" -o wide"), "False", c.where, c.why); err != nil {
			t.Errorf("%s: %v", c.spec, err)
		}
	}
}

func TestAGoodPolicyIsValidAndShown(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-good", "")
	w.Apply(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: good, namespace: e2e-good}
spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}
---
apiVersion: weftmesh.io/v1alpha1
kind: WeftClusterNetworkPolicy
metadata: {name: e2e-good}
spec: {endpointSelector: {matchLabels: {e2e: nobody}}, ingress: [{fromEntities: [host]}]}
`)
	t.Cleanup(func() { w.Drop("wcnp e2e-good") })
	for _, what := range []string{"wnp good -n e2e-good", "wcnp e2e-good"} {
		w.Kubectl("wait --for=condition=Valid " + what + " --timeout=20s")
		w.Eventually(time.Second, "shown", func() error { return framework.Wants(w.Kubectl("get "+what), "NAME", "VALID", "AGE", "True") })
	}
	for short, row := range map[string]string{"wn": "n1 ", "wid": "NAMESPACE", "wes": "-0 "} {
		if err := framework.Wants(w.Kubectl("get "+short), "NAME", row); err != nil {
			t.Errorf("%s: %v", short, err)
		}
	}
}
