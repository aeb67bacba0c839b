// SPDX-License-Identifier: Apache-2.0

package netns

import "testing"

func networkPolicies() []ruleCase {
	const server = "  podSelector: {matchLabels: {app: server}}\n"
	cases := []ruleCase{
		{name: "pods of the namespace", spec: server + `
  ingress:
  - from: [{podSelector: {matchLabels: {role: friend}}}]
`, probes: `
			friend, host -> server: ` + everyProtocol + `
			stranger, guest, world -x server: tcp 8080, udp 8080, ping
			server -> guest, world: tcp 8080, ping
		`},
		{name: "pods of other namespaces", spec: server + `
  ingress:
  - from: [{namespaceSelector: {matchLabels: {team: red}}}]
`, probes: `
			guest -> server: tcp 8080, ping
			friend, world -x server: tcp 8080, ping
		`},
		{name: "some pods of some namespaces", spec: server + `
  ingress:
  - from:
    - namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [demo, other]}]}
      podSelector: {matchLabels: {tier: gold}}
`, probes: `
			friend, guest -> server: tcp 8080, ping
			stranger, world -x server: tcp 8080, ping
		`},
		{name: "a block with an exception, a named port, a range", spec: server + `
  ingress:
  - from:
    - ipBlock: {cidr: 192.0.2.0/23, except: [192.0.3.0/24]}
    - ipBlock: {cidr: "2001:db8::/63", except: ["2001:db8:0:1::/64"]}
    ports: [{port: web}, {port: 9000, endPort: 9100, protocol: UDP}]
`, probes: `
			world -> server: tcp 8080, udp 9090
			world -x server: udp 8080, tcp 9090, ping
			far, friend -x server: tcp 8080, udp 9090
		`},
		{name: "egress with a type", spec: server + `
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {}}]
    ports: [{port: 8080}]
  - to: [{ipBlock: {cidr: 192.0.2.2/32}}, {ipBlock: {cidr: "2001:db8::2/128"}}]
`, probes: `
			server -> friend, stranger: tcp 8080
			server -x friend: tcp 9090, udp 8080, ping
			server -> world: ` + everyProtocol + `
			server -x guest, far, host: tcp 8080, ping
			stranger, world -> server: tcp 8080, ping
		`},
		{name: "rules of a type that is not listed do nothing", spec: server + `
  policyTypes: [Ingress]
  egress: [{to: [{podSelector: {matchLabels: {none: such}}}]}]
  ingress: [{}]
`, probes: `
			friend, guest, world -> server: tcp 8080, ping
			server -> world, friend: tcp 8080, ping
		`},
		{name: "default deny of everything", spec: `
  podSelector: {}
  policyTypes: [Ingress, Egress]
`, probes: `
			friend -x server, stranger, guest, world, host: tcp 8080, udp 8080, ping
			guest, world -x server, friend: tcp 8080, ping
			host -> server: tcp 8080, ping
			guest -> world: tcp 8080
		`},
	}
	for i := range cases {
		cases[i].kind = "NetworkPolicy"
	}
	return cases
}

func TestPoliciesAddUp(t *testing.T) {
	w := newTown(t)
	w.write("deny.yaml", ruleCase{kind: "NetworkPolicy", spec: "  podSelector: {}\n"}.policy("deny-all"))
	w.check(t, "friend, stranger, world -x server: tcp 8080")
	w.write("friend.yaml", ruleCase{spec: toServer + "  ingress: [{fromEndpoints: [{matchLabels: {role: friend}}]}]\n"}.policy("friend"))
	w.check(t, `
		friend -> server: tcp 8080
		stranger, world -x server: tcp 8080
	`)
	w.write("world.yaml", ruleCase{kind: "WeftClusterNetworkPolicy", spec: toServer + "  ingress: [{fromEntities: [world]}]\n"}.policy("world"))
	w.check(t, `
		friend, world -> server: tcp 8080
		stranger -x server: tcp 8080
	`)
	w.write("not-far.yaml", ruleCase{kind: "WeftClusterNetworkPolicy", spec: toServer + `
  ingressDeny: [{fromCIDR: ["192.0.3.0/24", "2001:db8:0:1::/64"]}]
`}.policy("not-far"))
	w.check(t, `
		friend, world -> server: tcp 8080
		stranger, far -x server: tcp 8080
	`)
	w.remove("friend.yaml")
	w.check(t, "friend, stranger, far -x server: tcp 8080\nworld -> server: tcp 8080")
	for _, name := range []string{"deny.yaml", "world.yaml", "not-far.yaml"} {
		w.remove(name)
	}
	w.check(t, "friend, stranger, far -> server: tcp 8080")
}
