// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// patterns are those of a field of spec in the schema, all of which a value must match.
func patterns(t *testing.T, path ...string) func(string) bool {
	t.Helper()
	data, err := os.ReadFile("../../../daemonset/chart/crd/weftmesh.io_weftnetworkpolicies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	at := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	for _, name := range path {
		if at = at.Properties[name]; at.Items != nil {
			at = *at.Items.Schema
		}
	}
	var all []*regexp.Regexp
	for _, s := range append(slices.Clone(at.AllOf), at) {
		if s.Pattern != "" {
			all = append(all, regexp.MustCompile(s.Pattern))
		}
	}
	if len(all) == 0 {
		t.Fatalf("%v has no pattern", path)
	}
	return func(s string) bool {
		return !slices.ContainsFunc(all, func(r *regexp.Regexp) bool { return !r.MatchString(s) })
	}
}

// TestTheSchemaTakesWhatIsRight: whatever the conversion reads the API server takes. Of
// ports, and of IPv4, it takes nothing else.
func TestTheSchemaTakesWhatIsRight(t *testing.T) {
	port := patterns(t, "ingress", "toPorts", "ports", "port")
	cidr, set := patterns(t, "egress", "toCIDR"), patterns(t, "egress", "toCIDRSet", "cidr")
	except := patterns(t, "egress", "toCIDRSet", "except")
	ports := rapid.OneOf(rapid.StringMatching(`[0-9]{1,6}`), rapid.StringMatching(`[0-9a-zA-Z-]{1,6}`), rapid.StringMatching(`[0-9a_. -]{1,3}`))
	v4 := rapid.StringMatching(`([0-9]{1,3}\.){3}[0-9]{1,3}(/[0-9]{1,2})?`)
	v6 := rapid.StringMatching(`[0-9a-fA-F]{0,4}(:{1,2}[0-9a-fA-F]{1,4}){0,6}(::)?(/[0-9]{1,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		p := ports.Draw(t, "port")
		if _, err := v1alpha1.ParsePort(p, 0); (err == nil) != port(p) {
			t.Errorf("port %q: %v, the schema says %v", p, err, port(p))
		}
		four := v4.Draw(t, "v4")
		if _, err := v1alpha1.ParseCIDR(four, true); (err == nil) != cidr(four) {
			t.Errorf("%q: %v, the schema says %v", four, err, cidr(four))
		}
		six := v6.Draw(t, "v6")
		if _, err := v1alpha1.ParseCIDR(six, true); err == nil && !cidr(six) {
			t.Errorf("%q is refused by the schema", six)
		}
		for _, s := range []string{four, six} {
			if _, err := v1alpha1.ParseCIDR(s, false); err == nil && (!set(s) || !except(s)) {
				t.Errorf("%q is refused by the schema of toCIDRSet", s)
			}
		}
	})
}
