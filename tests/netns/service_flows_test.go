// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// flowTo waits for a flow that begins at a source port and goes to a pod.
func (n *node) flowTo(what string, port int, to *sandbox.Pod, kind agentv1.FlowType) *agentv1.Flow {
	n.t.Helper()
	return n.flow(what, &agentv1.FlowFilter{ToPod: []string{"demo/" + to.Name}}, func(f *agentv1.Flow) bool {
		return f.GetSource().GetPort() == uint32(port) && f.GetType() == kind
	})
}

func portOf(a net.Addr) int {
	at, _ := netip.ParseAddrPort(a.String())
	return int(at.Port())
}

// asked fails unless the flow names the service, or none if there is no name.
func asked(t *testing.T, f *agentv1.Flow, what, name string) {
	t.Helper()
	got := ""
	if s := f.GetService(); s != nil {
		got = fmt.Sprintf("%s/%s:%d", s.GetNamespace(), s.GetName(), s.GetPort())
	}
	if got != name {
		t.Errorf("%s: the service is %q, want %q; %v", what, got, name, f)
	}
}

func TestFlowsNameTheService(t *testing.T) {
	n, client, a, _ := serviceNode(t, "conntrack: {tcpClosingTimeout: 1s}")
	n.write("service.yaml", serviceManifest("", ready(a)...))
	onBoth(t, func(t *testing.T, family int) {
		service, own := serviceAddrs()[family], []netip.Addr{a.IPv4, a.IPv6}[family]
		for _, from := range []*sandbox.NS{client.NS, sandbox.Host()} {
			for _, network := range []string{"tcp", "udp"} {
				for _, c := range []struct {
					to   string
					name string
				}{{hostPort(service, servicePort), "demo/web:80"}, {hostPort(own, 8080), ""}} {
					what := fmt.Sprintf("%s over %s to %s", from.Name, network, c.to)
					d := dialogWith(t, from, network, c.to)
					f := n.flowTo(what, portOf(d.conn.LocalAddr()), a, agentv1.FlowType_FLOW_TYPE_NEW)
					asked(t, f, what, c.name)
					if f.GetDestination().GetIp() != own.String() || f.GetDestination().GetPort() != 8080 {
						t.Errorf("%s: the destination is %v", what, f.GetDestination())
					}
					if network == "tcp" && from == client.NS {
						ok(t, d.conn.Close())
						asked(t, n.flowTo(what, portOf(d.conn.LocalAddr()), a, agentv1.FlowType_FLOW_TYPE_END), "the end, "+what, c.name)
					}
				}
			}
		}
		pc, err := client.NS.ListenPacket("udp", []string{"0.0.0.0:0", "[::]:0"}[family])
		ok(t, err)
		defer pc.Close()
		askFrom(t, pc, net.UDPAddrFromAddrPort(netip.AddrPortFrom(service, servicePort)))
		asked(t, n.flowTo("a message", portOf(pc.LocalAddr()), a, agentv1.FlowType_FLOW_TYPE_NEW), "a message", "demo/web:80")
	})
	out, err := n.weft("observe", "--service", "demo/web", "--last", "1000")
	ok(t, err)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) < 10 || strings.Count(out, "-> demo/web:80 -> demo/back-a:8080 (") != len(lines) {
		t.Errorf("weft observe --service:\n%s", out)
	}
}

// What policy refuses is named, too: people asked for the service.
func TestDropsNameTheService(t *testing.T) {
	n, client, a, b := serviceNode(t)
	n.write("service.yaml", serviceManifest("", ready(a)...))
	n.write("policy.yaml", ruleCase{kind: "NetworkPolicy", spec: "  podSelector: {matchLabels: {name: back-a}}\n"}.policy("closed"))
	onBoth(t, func(t *testing.T, family int) {
		for i, to := range []string{hostPort(serviceAddrs()[family], servicePort), hostPort([]netip.Addr{a.IPv4, a.IPv6}[family], 8080)} {
			// Another pod each time: drops of one kind are counted, not all reported.
			from := []*sandbox.Pod{client, b}[i]
			_, err := sandbox.Ask(from.NS, "tcp", to, "hello", silence)
			if err == nil {
				t.Fatalf("%s is answered", to)
			}
			f := n.flow("the drop", &agentv1.FlowFilter{FromPod: []string{"demo/" + from.Name}}, func(f *agentv1.Flow) bool {
				return f.GetType() == agentv1.FlowType_FLOW_TYPE_DROP && strings.Contains(f.GetDestination().GetIp(), ":") == (family == 1)
			})
			asked(t, f, "a drop", []string{"demo/web:80", ""}[i])
		}
	})
}
