// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/tests/sandbox"
)

// packetNode is a node whose socket programs see none of the test's processes, so
// that services are translated packet by packet.
func packetNode(t *testing.T) (n *node, client, a, b *sandbox.Pod) {
	t.Helper()
	mount, err := cgroup.FindMount()
	ok(t, err)
	elsewhere := filepath.Join(mount, "elsewhere")
	ok(t, os.MkdirAll(elsewhere, 0o755))
	t.Cleanup(func() { _ = os.Remove(elsewhere) })
	return serviceNode(t, "cgroup: "+elsewhere)
}

func TestPacketsReachTheBackends(t *testing.T) {
	n, client, a, b := packetNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	onBoth(t, func(t *testing.T, family int) {
		to := serviceAddrs()[family]
		for _, network := range []string{"tcp", "udp"} {
			// A pod, and one that is a backend itself.
			for _, from := range []*sandbox.NS{client.NS, a.NS} {
				if by := answered(t, from, network, to, 24); len(by) != 2 {
					t.Errorf("from %s over %s, of two backends these answer: %v", from.Name, network, by)
				}
			}
		}
		// Datagrams of one socket stay with one backend.
		pc, err := client.NS.ListenPacket("udp", []string{"0.0.0.0:0", "[::]:0"}[family])
		ok(t, err)
		defer pc.Close()
		addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, servicePort))
		first := askFrom(t, pc, addr)
		for range 5 {
			if again := askFrom(t, pc, addr); again != first {
				t.Errorf("one socket, but %s after %s", again, first)
			}
		}
	})
	f := n.flow("a flow by the service", &agentv1.FlowFilter{ToPod: []string{"demo/" + b.Name}}, func(f *agentv1.Flow) bool {
		return f.GetSource().GetPod() == client.Name
	})
	asked(t, f, "a packet's flow", "demo/web:80")
}

// Datagrams larger than a packet, and transfers of which devices make segments.
func TestPacketsOfAnySizeReachTheBackends(t *testing.T) {
	n, client, a, b := packetNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	onBoth(t, func(t *testing.T, family int) {
		to := hostPort(serviceAddrs()[family], servicePort)
		for _, network := range []string{"tcp", "udp"} {
			question := strings.Repeat("weft ", 1500)
			got, err := sandbox.Ask(client.NS, network, to, question, answer)
			ok(t, err)
			if !strings.HasSuffix(got, " "+question) {
				t.Errorf("%s: of %d bytes asked, %d came back", network, len(question), len(got))
			}
		}
	})
}

func TestPacketsToNobodyAreRefusedAtOnce(t *testing.T) {
	n, client, a, _ := packetNode(t)
	for _, targets := range [][]target{nil, {leaving(a)}} {
		n.write("service.yaml", serviceManifest("", targets...))
		onBoth(t, func(t *testing.T, family int) {
			for _, network := range []string{"tcp", "udp"} {
				begin := time.Now()
				_, err := sandbox.Ask(client.NS, network, hostPort(serviceAddrs()[family], servicePort), "hello", answer)
				if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begin) > answer/2 {
					t.Errorf("%s: %v after %s, want a refusal at once", network, err, time.Since(begin))
				}
			}
		})
	}
	if refused, err := metric(t, `weft_datapath_drop_packets_total{direction="egress",reason="NO_BACKEND"}`); err != nil || refused == 0 {
		t.Errorf("%v refused packets are counted, %v", refused, err)
	}
	n.flow("a refused call, by the name of its service", &agentv1.FlowFilter{Service: []string{"demo/web"}}, func(f *agentv1.Flow) bool {
		return f.GetDropReason() == agentv1.DropReason_DROP_REASON_NO_BACKEND
	})
}

func TestPacketsFollowTheBackends(t *testing.T) {
	n, client, a, b := packetNode(t)
	n.write("service.yaml", serviceManifest("", ready(a)...))
	open := make([]net.Conn, 2)
	for i := range open {
		var err error
		open[i], err = client.NS.Dial("tcp", hostPort(serviceAddrs()[i], servicePort), answer)
		ok(t, err)
		defer open[i].Close()
	}
	still := func(c net.Conn) error {
		got, err := sandbox.AskOn(c, "still there?", answer)
		if err == nil && !strings.HasPrefix(got, a.Name+" ") {
			t.Errorf("an open connection is answered by %q", got)
		}
		return err
	}
	n.write("service.yaml", serviceManifest("", append(ready(b), leaving(a))...))
	ok(t, n.agent.Kill()) // translations are the kernel's
	for i, c := range open {
		ok(t, still(c))
		if by := answered(t, client.NS, "tcp", serviceAddrs()[i], 8); by[b.Name] != 8 {
			t.Errorf("only %s is to get new connections, but %v do", b.Name, by)
		}
	}
	n.startAgent("weft-agent-ctalt") // and outlive another conntrack
	for _, c := range open {
		ok(t, still(c))
	}
	n.write("service.yaml", serviceManifest("", ready(b)...))
	for _, c := range open {
		if err := still(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection to a backend that is gone: %v, want a reset", err)
		}
	}
}

// What a policy says of the backend counts, and denies are told of it.
func TestPacketsToAServiceMeetPolicy(t *testing.T) {
	n, client, a, b := packetNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	n.write("policy.yaml", `apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: only-a, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: client}}
  egress:
  - toEndpoints: [{matchLabels: {name: back-a}}]
`)
	onBoth(t, func(t *testing.T, family int) {
		var passed, blocked int
		for range 16 {
			got, err := sandbox.Ask(client.NS, "tcp", hostPort(serviceAddrs()[family], servicePort), "hello", silence)
			switch {
			case err != nil:
				blocked++
			case strings.HasPrefix(got, a.Name+" "):
				passed++
			default:
				t.Errorf("%s answers in spite of the policy", got)
			}
		}
		if passed == 0 || blocked == 0 {
			t.Errorf("%d connections passed, %d were blocked", passed, blocked)
		}
	})
}
