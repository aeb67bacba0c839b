// SPDX-License-Identifier: Apache-2.0

package netns

import "testing"

// ruleCase is a policy's spec and what it lets pass.
type ruleCase struct {
	name   string
	kind   string // of the policy; empty: WeftNetworkPolicy
	spec   string
	probes string
}

// TestRules tries one policy after the other on one node; each replaces the one
// before it.
func TestRules(t *testing.T) {
	w := newTown(t)
	for _, group := range []struct {
		name  string
		cases []ruleCase
	}{
		{"ingress", ingressRules()}, {"egress", egressRules()}, {"ports", portRules()},
		{"deny and defaults", denyRules()}, {"NetworkPolicy", networkPolicies()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					w.write("policy.yaml", c.policy("policy"))
					w.check(t, c.probes)
				})
			}
		})
	}
	w.remove("policy.yaml")
	w.check(t, "stranger, guest, world, host -> server: "+everyProtocol)
}

func (c ruleCase) policy(name string) string {
	switch c.kind {
	case "WeftClusterNetworkPolicy":
		return "apiVersion: weftmesh.io/v1alpha1\nkind: WeftClusterNetworkPolicy\nmetadata: {name: " + name + "}\nspec:\n" + c.spec
	case "NetworkPolicy":
		return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: demo}\nspec:\n" + c.spec
	}
	return "apiVersion: weftmesh.io/v1alpha1\nkind: WeftNetworkPolicy\nmetadata: {name: " + name + ", namespace: demo}\nspec:\n" + c.spec
}

const toServer = "  endpointSelector: {matchLabels: {app: server}}\n"

func ingressRules() []ruleCase {
	return []ruleCase{
		{name: "labels", spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {role: friend}}]
`, probes: `
			friend -> server: ` + everyProtocol + `
			stranger, guest, world -x server: tcp 8080, udp 8080, ping
			host -> server: tcp 8080, ping
			server -> stranger, guest, world, host: tcp 8080, udp 8080, ping
			stranger -> friend: tcp 8080
		`},
		{name: "match expressions", spec: toServer + `
  ingress:
  - fromEndpoints:
    - matchExpressions:
      - {key: tier, operator: In, values: [gold, silver]}
      - {key: role, operator: NotIn, values: [stranger]}
      - {key: app, operator: DoesNotExist}
      - {key: "k8s:name", operator: Exists}
`, probes: `
			friend -> server: tcp 8080, ping
			stranger, guest, world -x server: tcp 8080, ping
		`},
		{name: "everyone of the namespace", spec: toServer + `
  ingress:
  - fromEndpoints: [{}]
`, probes: `
			friend, stranger, host -> server: tcp 8080, udp 9090, ping
			guest, world -x server: tcp 8080, udp 9090, ping
		`},
		{name: "namespace by name", spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": other, role: friend}}]
`, probes: `
			guest -> server: tcp 8080, ping
			friend, stranger, world -x server: tcp 8080, ping
		`},
		{name: "namespace by its labels", spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.team": red}}]
`, probes: `
			guest -> server: tcp 8080, ping
			friend, stranger, world -x server: tcp 8080, ping
		`},
		{name: "service account", spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.policy.serviceaccount": trusted}}]
`, probes: `
			friend -> server: tcp 8080, ping
			stranger, guest, world -x server: tcp 8080, ping
		`},
		{name: "entity world", spec: toServer + `
  ingress:
  - fromEntities: [world]
`, probes: `
			world, far, host -> server: tcp 8080, udp 8080, ping
			friend, guest -x server: tcp 8080, udp 8080, ping
		`},
		{name: "entity world of one family", spec: toServer + `
  ingress:
  - fromEntities: [world-ipv6]
`, probes: `
			world -> server: tcp6 8080, ping6
			world -x server: tcp4 8080, ping4
			friend -x server: tcp 8080
		`},
		{name: "entity cluster", spec: toServer + `
  ingress:
  - fromEntities: [cluster]
`, probes: `
			friend, stranger, guest, host -> server: tcp 8080, ping
			world, far -x server: tcp 8080, ping
		`},
		{name: "entity all", spec: toServer + `
  ingress:
  - fromEntities: [all]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
`, probes: `
			friend, guest, world, host -> server: tcp 8080
			friend, guest, world -x server: udp 8080, tcp 9090, ping
		`},
		{name: "prefix", spec: toServer + `
  ingress:
  - fromCIDR: [192.0.2.2/32, "2001:db8:0:1::/64"]
`, probes: `
			world -> server: tcp4 8080, ping4
			world -x server: tcp6 8080, ping6
			far -> server: tcp6 8080, ping6
			far -x server: tcp4 8080, ping4
			friend -x server: tcp 8080
		`},
		{name: "prefix with an exception", spec: toServer + `
  ingress:
  - fromCIDRSet:
    - {cidr: 192.0.2.0/23, except: [192.0.3.0/24]}
    - {cidr: "2001:db8::/63", except: ["2001:db8:0:1::/64"]}
`, probes: `
			world -> server: tcp 8080, udp 8080, ping
			far, friend -x server: tcp 8080, udp 8080, ping
		`},
		{name: "a prefix of everything means the world and no pods", spec: toServer + `
  ingress:
  - fromCIDR: [0.0.0.0/0, "::/0"]
`, probes: `
			world, far -> server: tcp 8080, ping
			friend, guest -x server: tcp 8080, ping
		`},
	}
}

func denyRules() []ruleCase {
	return []ruleCase{
		{name: "deny wins over allow", spec: toServer + `
  ingress:
  - fromEntities: [all]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {role: stranger}}]
  - fromEntities: [world]
    toPorts: [{ports: [{port: "9090", protocol: TCP}]}]
`, probes: `
			friend, guest, host -> server: ` + everyProtocol + `
			stranger -x server: ` + everyProtocol + `
			world -> server: tcp 8080, udp 9090, ping
			world -x server: tcp 9090
		`},
		{name: "deny of a prefix within an allowed one", spec: toServer + `
  ingress:
  - fromEntities: [world]
  ingressDeny:
  - fromCIDRSet: [{cidr: 192.0.3.0/24}, {cidr: "2001:db8:0:1::/64"}]
`, probes: `
			world -> server: tcp 8080, ping
			far, friend -x server: tcp 8080, ping
		`},
		{name: "deny of the host", spec: toServer + `
  ingress:
  - fromEntities: [all]
  ingressDeny:
  - fromEntities: [host]
`, probes: `
			host -x server: tcp 8080, udp 8080, ping
			friend, world -> server: tcp 8080, ping
			server -> host: tcp 8080
		`},
		{name: "egress deny wins over allow", spec: `
  endpointSelector: {matchLabels: {role: friend}}
  egress:
  - toEntities: [all]
  egressDeny:
  - toEndpoints: [{matchLabels: {app: server}}]
  - toCIDR: [192.0.3.0/24, "2001:db8:0:1::/64"]
`, probes: `
			friend -x server, far: ` + everyProtocol + `
			friend -> stranger, guest, world, host: tcp 8080, ping
			server -> friend: tcp 8080
		`},
		{name: "deny without default deny", spec: toServer + `
  enableDefaultDeny: {ingress: false, egress: false}
  ingressDeny:
  - fromEndpoints: [{matchLabels: {role: stranger}}]
`, probes: `
			stranger -x server: tcp 8080, ping
			friend, guest, world, host -> server: tcp 8080, ping
			server -> world: tcp 8080
		`},
		{name: "allow without default deny", spec: toServer + `
  enableDefaultDeny: {ingress: false}
  ingress:
  - fromEndpoints: [{matchLabels: {role: friend}}]
`, probes: `
			friend, stranger, world -> server: tcp 8080, ping
		`},
		{name: "an empty rule isolates and allows nobody", spec: toServer + `
  ingress: [{}]
`, probes: `
			friend, guest, world -x server: tcp 8080, udp 8080, ping
			host, server -> server: tcp 8080
			server -> friend, world: tcp 8080, ping
		`},
		{name: "an empty egress rule isolates and allows nobody", spec: toServer + `
  egress: [{}]
`, probes: `
			server -x friend, guest, world, host: tcp 8080, udp 8080, ping
			friend, world -> server: tcp 8080, ping
		`},
		{name: "an empty list of peers is nobody", spec: toServer + `
  ingress:
  - fromEndpoints: []
    toPorts: [{ports: [{port: "8080"}]}]
`, probes: `
			friend, world -x server: tcp 8080, udp 8080
		`},
		{name: "an empty list of rules does not isolate", spec: toServer + `
  ingress: []
  egress: [{}]
`, probes: `
			friend, world -> server: tcp 8080, ping
			server -x friend: tcp 8080
		`},
		{name: "cluster-wide, every pod", kind: "WeftClusterNetworkPolicy", spec: `
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {role: friend}}]
`, probes: `
			friend, guest -> server, stranger: tcp 8080, ping
			stranger, world -x server, friend, guest: tcp 8080, ping
		`},
		{name: "cluster-wide, pods of a namespace", kind: "WeftClusterNetworkPolicy", spec: `
  endpointSelector: {matchLabels: {"k8s:io.kubernetes.pod.namespace": other}}
  ingress:
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "8080", protocol: ANY}]}]
`, probes: `
			friend, stranger -> guest: tcp 8080, udp 8080
			friend -x guest: tcp 9090, ping
			world -x guest: tcp 8080
			world -> server: tcp 8080
		`},
	}
}
