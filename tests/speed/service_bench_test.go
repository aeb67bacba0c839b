// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/rounds"
)

const (
	serviceRounds = 9
	servicePort   = 80
)

// clusterIP is the address of the service with that number.
func clusterIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
}

// BenchmarkClusterIP is a new connection and a request to a service, against the
// same to the pod's own address: by Weft, and by the rules that kube-proxy makes,
// in hosts of their own. The service asked for stands in the middle of all.
func BenchmarkClusterIP(b *testing.B) {
	n := startNode(b)
	weft := n.weftPair()
	weft.serve(b)
	hosts := map[string]*plainHost{"none": newPlainHost(b, "plain")}
	hosts["none"].serve(b)
	for _, tool := range []string{"iptables-nft", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Logf("%s is not installed: no figures to compare with (apt-get install iptables nftables)", tool)
			continue
		}
		hosts[tool] = newPlainHost(b, tool)
		hosts[tool].serve(b)
	}
	for _, count := range []int{1, 1_000, 10_000} {
		n.write("services.yaml", serviceManifests(count, weft.server4))
		sides := []rounds.Side{
			connecting("weft/own_address", weft, at(weft.server4, echoPort)),
			connecting("weft/service", weft, at(clusterIP(count/2), servicePort)),
			connecting("own_address", &hosts["none"].pair, at(hosts["none"].server4, echoPort)),
		}
		for tool, rules := range map[string]func(int, netip.Addr) string{"iptables-nft": iptablesRules, "nft": nftRules} {
			if h := hosts[tool]; h != nil {
				h.load(b, tool, rules(count, h.server4))
				sides = append(sides, connecting(tool+"/service", &h.pair, at(clusterIP(count/2), servicePort)))
			}
		}
		b.Run(name(count, "_services"), func(b *testing.B) {
			medians := rounds.Medians(b, serviceRounds, sides)
			for _, s := range sides {
				rounds.Report(b, s.Name, medians[s.Name]/1e3, "us")
			}
		})
	}
}

func connecting(label string, p *pair, to netip.AddrPort) rounds.Side {
	return rounds.Side{Name: label, Measure: func(tb testing.TB) float64 {
		return measure(tb, p.client, p.group, order{Kind: kindConnect, At: to, CPU: 1, For: trafficTime})
	}}
}

// serviceManifests are count services with one backend each, the same for all.
func serviceManifests(count int, backend netip.Addr) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: s%[1]d, namespace: demo}
spec: {clusterIP: %[2]s, clusterIPs: [%[2]s], ports: [{name: tcp, port: 80, targetPort: %[3]d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s%[1]d, namespace: demo, labels: {kubernetes.io/service-name: s%[1]d}}
addressType: IPv4
ports: [{name: tcp, port: %[3]d}]
endpoints: [{addresses: [%[4]s], conditions: {ready: true}}]
`, i, clusterIP(i), echoPort, backend)
	}
	return b.String()
}

// iptablesRules are one chain for all services, and one for each service and
// each of its backends.
func iptablesRules(count int, backend netip.Addr) string {
	var chains, rules strings.Builder
	chains.WriteString("*nat\n:PREROUTING ACCEPT [0:0]\n:SERVICES - [0:0]\n")
	rules.WriteString("-A PREROUTING -j SERVICES\n")
	for i := range count {
		fmt.Fprintf(&chains, ":SVC-%d - [0:0]\n:SEP-%d - [0:0]\n", i, i)
		fmt.Fprintf(&rules, "-A SERVICES -d %s/32 -p tcp -m tcp --dport %d -j SVC-%d\n-A SVC-%d -j SEP-%d\n"+
			"-A SEP-%d -p tcp -m tcp -j DNAT --to-destination %s:%d\n", clusterIP(i), servicePort, i, i, i, i, backend, echoPort)
	}
	return chains.String() + rules.String() + "COMMIT\n"
}

// nftRules are a map from address and port to a chain of the service, which
// goes on to one of its backends.
func nftRules(count int, backend netip.Addr) string {
	var chains, elements strings.Builder
	for i := range count {
		fmt.Fprintf(&chains, "chain sep-%d { ip protocol tcp dnat to %s:%d; }\nchain svc-%d { numgen random mod 1 vmap { 0 : goto sep-%d }; }\n",
			i, backend, echoPort, i, i)
		fmt.Fprintf(&elements, "%s . tcp . %d : goto svc-%d,\n", clusterIP(i), servicePort, i)
	}
	return "table ip proxy\ndelete table ip proxy\ntable ip proxy {\n" + chains.String() +
		"map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = {\n" + elements.String() + "} }\n" +
		"chain prerouting { type nat hook prerouting priority dstnat; policy accept; ip daddr . meta l4proto . th dport vmap @services; }\n}\n"
}

// load gives the host rules, in place of those it had.
func (p *plainHost) load(tb testing.TB, tool, rules string) {
	tb.Helper()
	cmd := exec.Command("iptables-nft-restore")
	if tool == "nft" {
		cmd = exec.Command("nft", "-f", "-")
	}
	cmd.Stdin = strings.NewReader(rules)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	ok(tb, p.host.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		tb.Fatalf("loading the rules of %s: %v\n%.2000s", tool, err, out.String())
	}
}
