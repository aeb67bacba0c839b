// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// refused are uses of every field of CiliumNetworkPolicy that is not built yet:
// the path of the field, and a spec that uses it and nothing else that is wrong.
func refused() map[string]string {
	out := map[string]string{
		"spec.nodeSelector": `{nodeSelector: {}, ingress: [{}]}`,
		"spec.log":          `{endpointSelector: {}, log: {value: x}, ingress: [{}]}`,
	}
	rule := func(list, field, value string) {
		out[fmt.Sprintf("spec.%s[0].%s", list, field)] = fmt.Sprintf(`{endpointSelector: {}, %s: [{%s: %s}]}`, list, field, value)
	}
	port := func(list, path, field, value string) {
		out[fmt.Sprintf("spec.%s[0].toPorts[0].%s", list, path)] =
			fmt.Sprintf(`{endpointSelector: {}, %s: [{toPorts: [{ports: [{port: "80", protocol: TCP}], %s: %s}]}]}`, list, field, value)
	}
	for _, list := range []string{"ingress", "ingressDeny"} {
		rule(list, "fromRequires", "[{}]")
		rule(list, "fromNodes", "[{}]")
		rule(list, "fromGroups", "[{aws: {region: a}}]")
	}
	for _, list := range []string{"egress", "egressDeny"} {
		rule(list, "toRequires", "[{}]")
		rule(list, "toNodes", "[{}]")
		rule(list, "toGroups", "[{aws: {labels: {a: b}, securityGroupsIds: [a], securityGroupsNames: [b]}}]")
		rule(list, "toServices", "[{k8sService: {serviceName: a, namespace: b}}, {k8sServiceSelector: {selector: {}, namespace: b}}]")
	}
	rule("egress", "toFQDNs", "[{matchName: a.b}, {matchPattern: '*.b'}]")
	for _, list := range []string{"ingress", "egress"} {
		rule(list, "authentication", "{mode: disabled}")
		tls := "{secret: {name: a, namespace: b}, trustedCA: a, certificate: b, privateKey: c}"
		port(list, "terminatingTLS", "terminatingTLS", tls)
		port(list, "originatingTLS", "originatingTLS", tls)
		port(list, "listener", "listener", "{name: a, envoyConfig: {kind: k, name: b}, priority: 1}")
		port(list, "rules.http[0].headerMatches[0].secret", "rules", "{http: [{headerMatches: [{name: a, secret: {name: c, namespace: d}}]}]}")
		port(list, "rules.kafka", "rules", "{kafka: [{role: produce, apiKey: a, apiVersion: '1', clientID: b, topic: c}]}")
		port(list, "rules.dns", "rules", "{dns: [{matchName: a.b}, {matchPattern: '*'}]}")
		port(list, "rules.l7", "rules", "{l7: [{a: b}]}")
		port(list, "rules.l7proto", "rules", "{l7proto: r2d2}")
	}
	for list, set := range map[string]string{"ingress": "from", "ingressDeny": "from", "egress": "to", "egressDeny": "to"} {
		for field, value := range map[string]string{"cidrGroupRef": "a", "cidrGroupSelector": "{}"} {
			out[fmt.Sprintf("spec.%s[0].%sCIDRSet[0].%s", list, set, field)] =
				fmt.Sprintf(`{endpointSelector: {}, %s: [{%sCIDRSet: [{%s: %s}]}]}`, list, set, field, value)
		}
	}
	return out
}

func TestFieldsNotBuiltAreRefusedByName(t *testing.T) {
	used := map[string]bool{}
	for path, spec := range refused() {
		_, err := decode(t, object(spec))
		want := path + ": not supported yet; "
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.HasSuffix(err.Error(), "; ") {
			t.Errorf("%s: got %v", path, err)
		}
		for field := range v1alpha1.Remedies() {
			used[field] = used[field] || strings.HasSuffix(path, field)
		}
	}
	for field := range v1alpha1.Remedies() {
		if !used[field] {
			t.Errorf("no test uses %s", field)
		}
	}
}

// An empty list of a refused kind asks for something, too.
func TestEmptyListsAreRefused(t *testing.T) {
	_, err := decode(t, object(`{endpointSelector: {}, egress: [{toFQDNs: [], toServices: [], toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {dns: []}}]}]}`))
	want := []string{"spec.egress[0].toFQDNs", "spec.egress[0].toPorts[0].rules.dns", "spec.egress[0].toServices"}
	if err == nil || len(strings.Split(err.Error(), "\n")) != len(want) {
		t.Fatalf("got %v", err)
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if !strings.HasPrefix(line, want[i]+": not supported yet") {
			t.Errorf("line %d is %q, want %s", i, line, want[i])
		}
	}
}

// The schema refuses the same fields, so that the API server never prunes one.
func TestSchemaRefusesTheSameFields(t *testing.T) {
	for _, file := range []string{"weftnetworkpolicies", "weftclusternetworkpolicies"} {
		crd, err := os.ReadFile("../../../daemonset/chart/crd/weftmesh.io_" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for field := range v1alpha1.Remedies() {
			if !strings.Contains(string(crd), "!has(self."+field+")") && field != "secret" {
				t.Errorf("%s has no rule against %s", file, field)
			}
		}
		if !strings.Contains(string(crd), "maxProperties: 0") {
			t.Errorf("%s has room for the secrets of headers", file)
		}
	}
}
