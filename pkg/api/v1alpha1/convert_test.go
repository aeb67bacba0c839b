// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"
)

// object wraps a spec, written in flow style, in a policy of namespace shop.
func object(spec string) string {
	return "apiVersion: weftmesh.io/v1alpha1\nkind: WeftNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: " + spec + "\n"
}

func cluster(spec string) string {
	return "apiVersion: weftmesh.io/v1alpha1\nkind: WeftClusterNetworkPolicy\nmetadata: {name: p}\nspec: " + spec + "\n"
}

const (
	inShop = "k8s:io.kubernetes.pod.namespace=shop"
	head   = "WeftNetworkPolicy shop/p #0 selects {" + inShop + "}"
)

func TestConversion(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"the subject is bound to the namespace": {
			object(`{endpointSelector: {matchLabels: {app: web, "k8s:tier": front}, matchExpressions: [{key: "any:x", operator: NotIn, values: [b, a]}]}, ingress: [{}]}`),
			"WeftNetworkPolicy shop/p #0 selects {any:app=web " + inShop + " k8s:tier=front any:x!=a|b}, isolates ingress\n" +
				"ingress[0]: allow [] []\n",
		},
		"an empty rule matches nothing and isolates": {
			object(`{endpointSelector: {}, egress: [{}]}`),
			head + ", isolates egress\negress[0]: allow [] []\n",
		},
		"an empty list of rules does not isolate": {
			object(`{endpointSelector: {}, egress: [], ingressDeny: [{fromEntities: [world]}]}`),
			head + ", isolates ingress\ningressDeny[0]: deny [world] []\n",
		},
		"ports without peers mean everybody": {
			object(`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}`),
			head + ", isolates ingress\ningress[0]: allow [any] [6/80-80]\n",
		},
		"an empty list of peers means nobody": {
			object(`{endpointSelector: {}, ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: "80"}]}]}, {fromEndpoints: [], fromEntities: [world]}]}`),
			head + ", isolates ingress\ningress[0]: allow [] [0/80-80]\ningress[1]: allow [] []\n",
		},
		"an empty list of ports does not mean everybody": {
			object(`{endpointSelector: {}, ingress: [{toPorts: []}, {icmps: []}]}`),
			head + ", isolates ingress\ningress[0]: allow [] []\ningress[1]: allow [] []\n",
		},
		"selectors of peers": {
			object(`{endpointSelector: {}, egress: [{toEndpoints: [{}, {matchLabels: {app: db}}, {matchLabels: {"k8s:io.kubernetes.pod.namespace": other}}, ` +
				`{matchLabels: {io.cilium.k8s.namespace.labels.team: a}}, {matchLabels: {"reserved:host": ""}}, {matchExpressions: [{key: "reserved:host", operator: DoesNotExist}]}]}]}`),
			head + ", isolates egress\negress[0]: allow [{" + inShop + "} {any:app=db " + inShop + "} {k8s:io.kubernetes.pod.namespace=other} " +
				"{any:io.cilium.k8s.namespace.labels.team=a} {reserved:host=} {reserved:host!? " + inShop + "}] []\n",
		},
		"selectors of a cluster-wide policy are not bound": {
			cluster(`{endpointSelector: {}, ingress: [{fromEndpoints: [{}, {matchLabels: {app: db}}]}]}`),
			"WeftClusterNetworkPolicy p #0 selects {}, isolates ingress\ningress[0]: allow [{} {any:app=db}] []\n",
		},
		"CIDR": {
			object(`{endpointSelector: {}, egress: [{toCIDR: [10.1.2.3/8, 10.1.2.3, "fd00::1"]}, {toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.3.4/24]}]}]}`),
			head + ", isolates egress\negress[0]: allow [10.0.0.0/8 10.1.2.3/32 fd00::1/128] []\negress[1]: allow [10.0.0.0/8-10.1.0.0/16-10.2.3.0/24] []\n",
		},
		"ports": {
			object(`{endpointSelector: {}, egress: [{toEntities: [all], toPorts: [{ports: [{port: "0"}, {port: "0", protocol: UDP}, {port: "10", endPort: 20, protocol: SCTP}]}, ` +
				`{ports: [{port: HTTP-8}, {port: "53", protocol: udp}, {port: "0", protocol: VRRP}, {protocol: IGMP}]}]}]}`),
			head + ", isolates egress\negress[0]: allow [all] [0/0-65535 17/0-65535 132/10-20 0/http-8 17/53-53 112/0-65535 2/0-65535]\n",
		},
		"ICMP": {
			object(`{endpointSelector: {}, ingress: [{icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}, {type: "3"}]}]}]}`),
			head + ", isolates ingress\ningress[0]: allow [any] [1/2048-2303 58/32768-33023 1/768-1023]\n",
		},
		"default deny can be asked for and refused": {
			object(`{endpointSelector: {}, enableDefaultDeny: {ingress: false, egress: true}, ingressDeny: [{fromEntities: [world]}]}`),
			head + ", isolates egress\ningressDeny[0]: deny [world] []\n",
		},
		"specs": {
			"apiVersion: weftmesh.io/v1alpha1\nkind: WeftClusterNetworkPolicy\nmetadata: {name: p}\nspec: {endpointSelector: {}, ingress: [{}]}\n" +
				"specs: [{endpointSelector: {}, egress: [{}]}, {endpointSelector: {}, egressDeny: [{toCIDR: [\"::/0\"]}]}]\n",
			"WeftClusterNetworkPolicy p #0 selects {}, isolates ingress\ningress[0]: allow [] []\n" +
				"WeftClusterNetworkPolicy p #1 selects {}, isolates egress\nspecs[0].egress[0]: allow [] []\n" +
				"WeftClusterNetworkPolicy p #2 selects {}, isolates egress\nspecs[1].egressDeny[0]: deny [::/0] []\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, test.in)
			if err != nil {
				t.Fatal(err)
			}
			if text := describe(got); text != test.want {
				t.Errorf("got\n%swant\n%s", text, test.want)
			}
		})
	}
}

func TestFaultsAreNamed(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"no rules":            {`{endpointSelector: {}}`, "spec: has no rules; one of ingress, ingressDeny, egress and egressDeny is needed"},
		"no selector":         {`{ingress: [{}]}`, "spec.endpointSelector: is missing; {} selects all pods"},
		"another namespace":   {`{endpointSelector: {matchLabels: {"k8s:io.kubernetes.pod.namespace": a}}, ingress: [{}]}`, "spec.endpointSelector: selects namespace a, but the policy is in shop; move it there, or make it a WeftClusterNetworkPolicy"},
		"reserved subject":    {`{endpointSelector: {matchLabels: {"reserved:host": ""}}, ingress: [{}]}`, "spec.endpointSelector: selects reserved:host; policies of anything but pods are not supported yet"},
		"label source":        {`{endpointSelector: {matchLabels: {"container:a": b}}, ingress: [{}]}`, `spec.endpointSelector.matchLabels[container:a]: label source "container" is unknown; use k8s:, any: or reserved: before the key`},
		"operator":            {`{endpointSelector: {matchExpressions: [{key: a, operator: Like}]}, ingress: [{}]}`, `spec.endpointSelector.matchExpressions[0]: operator "Like" is unknown; use In, NotIn, Exists or DoesNotExist`},
		"no values":           {`{endpointSelector: {matchExpressions: [{key: a, operator: In}]}, ingress: [{}]}`, `spec.endpointSelector.matchExpressions[0]: operator In needs values`},
		"values":              {`{endpointSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}, ingress: [{}]}`, `spec.endpointSelector.matchExpressions[0]: operator Exists takes no values; remove them`},
		"combined peers":      {`{endpointSelector: {}, egress: [{toEndpoints: [{}], toCIDR: [10.0.0.0/8]}]}`, "spec.egress[0]: combines toEndpoints and toCIDR; write a rule for each"},
		"ports and icmps":     {`{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: "1"}]}], icmps: [{fields: [{type: 8}]}]}]}`, "spec.egress[0]: combines toPorts and icmps; write a rule for each"},
		"entity":              {`{endpointSelector: {}, egressDeny: [{toEntities: [moon]}]}`, `spec.egressDeny[0].toEntities[0]: entity "moon" is unknown; use one of all, world,`},
		"prefix":              {`{endpointSelector: {}, ingress: [{fromCIDR: [10.0.0.0/33]}]}`, `spec.ingress[0].fromCIDR[0]: "10.0.0.0/33" is not a prefix; write one such as 10.0.0.0/8 or fd00::/8`},
		"mapped prefix":       {`{endpointSelector: {}, ingress: [{fromCIDR: ["::ffff:10.0.0.0/104"]}]}`, `"::ffff:10.0.0.0/104" is an IPv4 prefix in IPv6 form; write it as IPv4`},
		"address in set":      {`{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.1}]}]}`, `spec.ingress[0].fromCIDRSet[0].cidr: "10.0.0.1" is not a prefix`},
		"outside exception":   {`{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]}`, `spec.ingress[0].fromCIDRSet[0].except[0]: 11.0.0.0/16 is not inside 10.0.0.0/8; name a prefix that is, or remove it`},
		"wider exception":     {`{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}]}]}`, `except[0]: 10.0.0.0/7 is not inside`},
		"no prefix in set":    {`{endpointSelector: {}, ingress: [{fromCIDRSet: [{}]}]}`, `spec.ingress[0].fromCIDRSet[0].cidr: is missing; write a prefix such as 10.0.0.0/8`},
		"empty ports":         {`{endpointSelector: {}, ingress: [{toPorts: [{}]}]}`, `spec.ingress[0].toPorts[0].ports: is empty; list ports, or remove toPorts to mean every port`},
		"empty icmps":         {`{endpointSelector: {}, ingress: [{icmps: [{}]}]}`, `spec.ingress[0].icmps[0].fields: is empty; list types, or remove icmps`},
		"port":                {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "70000"}]}]}]}`, `spec.ingress[0].toPorts[0].ports[0]: port "70000" is neither a number from 0 to 65535 nor a name`},
		"leading zero":        {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "00"}]}]}]}`, `port "00" begins with 0`},
		"no port":             {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{protocol: TCP}]}]}]}`, `spec.ingress[0].toPorts[0].ports[0].port: is missing`},
		"range backwards":     {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "80", endPort: 79}]}]}]}`, `endPort 79 is not between port 80 and 65535`},
		"range of a name":     {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: http, endPort: 79}]}]}]}`, `endPort needs a number as port, not the name "http"`},
		"protocol":            {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "1", protocol: ICMP}]}]}]}`, `spec.ingress[0].toPorts[0].ports[0].protocol: protocol "ICMP" is unknown`},
		"port of VRRP":        {`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "1", protocol: VRRP}]}]}]}`, `VRRP has no ports; write 0`},
		"ICMP type":           {`{endpointSelector: {}, ingress: [{icmps: [{fields: [{type: 256}]}]}]}`, `spec.ingress[0].icmps[0].fields[0].type: type "256" is unknown`},
		"ICMP name of family": {`{endpointSelector: {}, ingress: [{icmps: [{fields: [{type: PacketTooBig}]}]}]}`, `type "PacketTooBig" is unknown`},
		"no ICMP type":        {`{endpointSelector: {}, ingress: [{icmps: [{fields: [{family: IPv6}]}]}]}`, `spec.ingress[0].icmps[0].fields[0].type: is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, object(test.in))
			if err == nil {
				t.Fatalf("accepted as\n%s", describe(got))
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || got != nil {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}
