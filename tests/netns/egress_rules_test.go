// SPDX-License-Identifier: Apache-2.0

package netns

const fromFriend = "  endpointSelector: {matchLabels: {name: friend}}\n"

func egressRules() []ruleCase {
	return []ruleCase{
		{name: "labels", spec: fromFriend + `
  egress:
  - toEndpoints: [{matchLabels: {app: server}}]
`, probes: `
			friend -> server: ` + everyProtocol + `
			friend -x stranger, guest, world, host: tcp 8080, udp 8080, ping
			stranger, guest, world, host -> friend: tcp 8080, ping
		`},
		{name: "namespace and account", spec: fromFriend + `
  egress:
  - toEndpoints:
    - matchLabels: {"k8s:io.kubernetes.pod.namespace": other}
    - matchLabels: {"k8s:io.cilium.k8s.policy.serviceaccount": default}
      matchExpressions: [{key: app, operator: Exists}]
`, probes: `
			friend -> guest, server: tcp 8080, ping
			friend -x stranger, world: tcp 8080, ping
		`},
		{name: "entity host", spec: fromFriend + `
  egress:
  - toEntities: [host]
`, probes: `
			friend -> host: tcp 8080, udp 8080, ping
			friend -x server, world: tcp 8080, udp 8080, ping
		`},
		{name: "entity world", spec: fromFriend + `
  egress:
  - toEntities: [world]
`, probes: `
			friend -> world, far: tcp 8080, udp 8080, ping
			friend -x server, host: tcp 8080, udp 8080, ping
		`},
		{name: "entity cluster", spec: fromFriend + `
  egress:
  - toEntities: [cluster]
`, probes: `
			friend -> server, guest, host: tcp 8080, ping
			friend -x world, far: tcp 8080, ping
		`},
		{name: "entity all", spec: fromFriend + `
  egress:
  - toEntities: [all]
    toPorts: [{ports: [{port: "9090", protocol: UDP}]}]
`, probes: `
			friend -> server, host, world: udp 9090
			friend -x server, host, world: tcp 9090, udp 8080, ping
		`},
		{name: "prefix", spec: fromFriend + `
  egress:
  - toCIDR: [192.0.2.2, "2001:db8:0:1::/64"]
`, probes: `
			friend -> world: tcp4 8080, ping4
			friend -x world: tcp6 8080, ping6
			friend -> far: tcp6 8080, ping6
			friend -x far: tcp4 8080, ping4
			friend -x server, host: tcp 8080
		`},
		{name: "prefix with an exception", spec: fromFriend + `
  egress:
  - toCIDRSet:
    - {cidr: 192.0.2.0/23, except: [192.0.3.0/24]}
    - {cidr: "2001:db8::/63", except: ["2001:db8:0:1::/64"]}
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
`, probes: `
			friend -> world: tcp 8080
			friend -x world: tcp 9090, udp 8080, ping
			friend -x far, server: tcp 8080
		`},
		{name: "ports alone mean everybody", spec: fromFriend + `
  egress:
  - toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
`, probes: `
			friend -> server, guest, world, host: tcp 8080
			friend -x server, world, host: tcp 9090, udp 8080, ping
		`},
	}
}

func portRules() []ruleCase {
	return []ruleCase{
		{name: "one port", spec: toServer + `
  ingress:
  - fromEntities: [all]
    toPorts: [{ports: [{port: "8080", protocol: UDP}]}]
`, probes: `
			friend, world -> server: udp 8080
			friend, world -x server: tcp 8080, udp 9090, ping
		`},
		{name: "a range", spec: toServer + `
  ingress:
  - toPorts: [{ports: [{port: "8081", endPort: 9090, protocol: TCP}]}]
`, probes: `
			friend, world -> server: tcp 9090
			friend, world -x server: tcp 8080, udp 9090
		`},
		{name: "a range that ends before", spec: toServer + `
  ingress:
  - toPorts: [{ports: [{port: "8080", endPort: 9089}]}]
`, probes: `
			friend, world -> server: tcp 8080, udp 8080
			friend, world -x server: tcp 9090, udp 9090, ping
		`},
		{name: "a named port", spec: toServer + `
  ingress:
  - toPorts: [{ports: [{port: web, protocol: TCP}]}]
`, probes: `
			friend, world -> server: tcp 8080
			friend, world -x server: tcp 9090, udp 8080
		`},
		{name: "a named port in egress", spec: fromFriend + `
  egress:
  - toEndpoints: [{}]
    toPorts: [{ports: [{port: web-udp, protocol: UDP}]}]
`, probes: `
			friend -> server, stranger: udp 8080
			friend -x server: tcp 8080, udp 9090
			friend -x guest, world: udp 8080
		`},
		{name: "every port of a protocol", spec: toServer + `
  ingress:
  - toPorts: [{ports: [{port: "0", protocol: TCP}]}]
`, probes: `
			friend, world -> server: tcp 8080, tcp 9090
			friend, world -x server: udp 8080, ping
		`},
		{name: "any protocol with ports", spec: toServer + `
  ingress:
  - toPorts: [{ports: [{port: "8080", protocol: ANY}]}]
`, probes: `
			friend, world -> server: tcp 8080, udp 8080
			friend, world -x server: tcp 9090, udp 9090, ping
		`},
		{name: "ICMP type of IPv4", spec: toServer + `
  ingress:
  - icmps: [{fields: [{type: 8, family: IPv4}]}]
`, probes: `
			friend, world -> server: ping4
			friend, world -x server: ping6, tcp 8080
		`},
		{name: "ICMP type of IPv6 by name", spec: toServer + `
  ingress:
  - fromEndpoints: [{}]
    icmps: [{fields: [{type: EchoRequest, family: IPv6}]}]
`, probes: `
			friend -> server: ping6
			friend -x server: ping4, udp 8080
			world -x server: ping
		`},
		{name: "another ICMP type", spec: fromFriend + `
  egress:
  - icmps: [{fields: [{type: 13, family: IPv4}, {type: 139, family: IPv6}]}]
`, probes: `
			friend -x server, world: ping, tcp 8080
		`},
		{name: "deny of a type", spec: toServer + `
  ingress: [{fromEntities: [all]}]
  ingressDeny:
  - icmps: [{fields: [{type: 8}, {type: 128, family: IPv6}]}]
`, probes: `
			friend, world -> server: tcp 8080, udp 8080
			friend, world -x server: ping
		`},
		{name: "deny of a range within", spec: toServer + `
  ingress: [{fromEntities: [all]}]
  ingressDeny:
  - toPorts: [{ports: [{port: "9000", endPort: 9099}]}]
`, probes: `
			friend, world -> server: tcp 8080, udp 8080, ping
			friend, world -x server: tcp 9090, udp 9090
		`},
	}
}
