// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

// TestPodsLeaveAsTheNode: everything a pod does with the world, which has no way
// back to it; among pods and with the host it stays itself.
func TestPodsLeaveAsTheNode(t *testing.T) {
	o := startOut(t)
	client, server := o.pod("client"), o.pod("server")
	for _, ns := range []*sandbox.NS{o.world, o.beyond, server.NS, sandbox.Host()} {
		startMirror(t, ns, 8080)
	}
	echo, err := sandbox.StartEcho(o.beyond, "beyond", 9090)
	ok(t, err)
	t.Cleanup(echo.Close)
	onBoth(t, func(t *testing.T, family int) {
		beyond := beyondAddrs()[family]
		for _, network := range []string{"tcp", "udp"} {
			for to, want := range map[netip.Addr]netip.Addr{
				worldAddrs()[family]: hostAddrs()[family], beyond: hostAddrs()[family],
				addrs(server)[family]: addrs(client)[family], hostAddrs()[family]: addrs(client)[family],
			} {
				if me := seenAs(t, client.NS, network, to); me.Addr() != want {
					t.Errorf("%s sees the pod over %s as %s", to, network, me)
				}
			}
		}
		pings(t, client.NS, beyond)
		pings(t, client.NS, worldAddrs()[family])
		refuses(t, o.node, client.NS, beyond)
		// A sender of IPv6 has to learn the path's size before its pieces fit.
		ok(t, sandbox.Eventually(o.ctx, soon, "large datagrams", func() error {
			return askLarge(client.NS, beyond, 9090, "beyond")
		}))
		if err := carry(client.NS, o.beyond, beyond, 8<<20); err != nil {
			t.Errorf("a transfer: %v", err)
		}
		echoes(t, client.NS, hostPort(beyond, 9090))
	})
	nothingInNetfilter(t)
}

// echoes has a large transfer sent back, so that both ways carry large packets.
func echoes(t *testing.T, from *sandbox.NS, to string) {
	t.Helper()
	s, err := sandbox.StartStream(sandbox.StreamConfig{NS: from, Addr: to})
	ok(t, err)
	defer s.Stop()
	moves(t, s, "to and fro")
}

// Every translated flow has both of its keys, also when many packets open flows at
// once, and keeps none when it is over.
func TestTranslationsHaveTwoKeys(t *testing.T) {
	o := startOut(t, "conntrack: {otherTimeout: 8s, tcpClosingTimeout: 1s}")
	pods := []*sandbox.Pod{o.pod("one"), o.pod("two")}
	startMirror(t, o.beyond, 8080)
	flows := level.Scale(2000)
	ok(t, inParallel(flows, func(i int) error {
		conn, err := dialAs(pods[i%2].NS, "udp", uint16(20000+i/2), hostPort(beyondAddrs()[i/2%2], 8080))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 3 {
			if _, err := conn.Write([]byte("who")); err != nil {
				return err
			}
		}
		_, err = whoAmI(conn)
		return err
	}))
	if keys := o.translations(); keys != 2*flows {
		t.Errorf("%d keys for %d flows", keys, flows)
	}
	ok(t, sandbox.Eventually(o.ctx, soon, "the end of the flows", func() error {
		if keys := count(t, "weft_nat4_v1") + count(t, "weft_nat6_v1"); keys > 0 {
			return fmt.Errorf("%d keys are left", keys)
		}
		return nil
	}))
}

// count is the number of entries of a map.
func count(t *testing.T, pin string) int {
	t.Helper()
	m := pinned(t, pin)
	defer m.Close()
	keys := 0
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	for entries := m.Iterate(); entries.Next(&key, &value); { // one that is cut short will be begun anew
		keys++
	}
	return keys
}

// translations is the number of keys of translated flows; each must have its twin.
func (n *node) translations() int {
	n.t.Helper()
	out, in := map[string]bool{}, map[string]bool{}
	note := func(kind, proto uint8, src, dst, to []byte, sport, dport, port uint16) {
		if weftbpf.BpfWeftNatKind(kind) == weftbpf.BpfWeftNatKindWEFT_NAT_OUT {
			out[fmt.Sprint(proto, src, sport, dst, dport, to, port)] = true
		} else {
			in[fmt.Sprint(proto, to, port, src, sport, dst, dport)] = true
		}
	}
	each(n.t, "weft_nat4_v1", func(k weftbpf.BpfWeftNat4Key, v weftbpf.BpfWeftNat) {
		note(k.Kind, k.Proto, ip4(k.Src).AsSlice(), ip4(k.Dst).AsSlice(), v.Addr[:4], k.Sport, k.Dport, v.Port)
	})
	each(n.t, "weft_nat6_v1", func(k weftbpf.BpfWeftNat6Key, v weftbpf.BpfWeftNat) {
		note(k.Kind, k.Proto, k.Src[:], k.Dst[:], v.Addr[:], k.Sport, k.Dport, v.Port)
	})
	if !maps.Equal(out, in) {
		n.t.Errorf("%d keys out and %d keys in do not match", len(out), len(in))
	}
	return len(out) + len(in)
}

// nothingInNetfilter fails if there is a table of iptables or nftables.
func nothingInNetfilter(t *testing.T) {
	t.Helper()
	for _, f := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		text, err := os.ReadFile(f)
		if err == nil && len(text) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s has %q, %v", f, text, err)
		}
	}
	for _, tool := range [][]string{{"nft", "list", "ruleset"}, {"iptables-save"}, {"ip6tables-save"}} {
		out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			continue // the files above have told
		}
		if err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%v says %q, %v", tool, out, err)
		}
	}
}

// Sums are right on the wire, whoever is to write them: the pod before the packet
// is translated, or the uplink's device after it; and the same on the way back. Where
// nobody wrote one, veth devices do not look at it.
func TestSumsOfTranslatedPackets(t *testing.T) {
	o := startOut(t)
	client := o.pod("client")
	startMirror(t, o.world, 8080)
	echo, err := sandbox.StartEcho(o.world, "world", 9090)
	ok(t, err)
	t.Cleanup(echo.Close)
	for _, step := range []struct {
		name, device string
		ns           *sandbox.NS
	}{{"the uplink", uplinkDevice, sandbox.Host()}, {"the pod", "eth0", client.NS}, {"the world", "w0", o.world}} {
		ok(t, offload(step.ns, step.device, ethtoolTxSum, false))
		onBoth(t, func(t *testing.T, family int) {
			world := worldAddrs()[family]
			for _, network := range []string{"tcp", "udp"} {
				if me := seenAs(t, client.NS, network, world); me.Addr() != hostAddrs()[family] {
					t.Errorf("with sums written by %s, seen over %s as %s", step.name, network, me)
				}
			}
			pings(t, client.NS, world)
			if err := askLarge(client.NS, world, 9090, "world"); err != nil {
				t.Errorf("with sums written by %s, large datagrams: %v", step.name, err)
			}
			if err := carry(client.NS, o.world, world, 1<<20); err != nil {
				t.Errorf("with sums written by %s, a transfer: %v", step.name, err)
			}
			echoes(t, client.NS, hostPort(world, 9090))
		})
	}
}

// A router beyond the node tells a pod that its packets do not fit.
func TestSmallerPathBeyondTheNode(t *testing.T) {
	o := startOut(t)
	client := o.pod("client")
	onBoth(t, func(t *testing.T, family int) {
		if err := learnsSize(o.node, client.NS, beyondAddrs()[family]); err != nil {
			t.Error(err)
		}
	})
}

// A pod's error about a late answer finds whom it is for.
func TestErrorsOfPodsLeave(t *testing.T) {
	o := startOut(t)
	client := o.pod("client")
	onBoth(t, func(t *testing.T, family int) {
		to := beyondAddrs()[family]
		ear, err := o.beyond.ListenPacket("udp", hostPort(to, 9000))
		ok(t, err)
		mouth, err := client.NS.Dial("udp", hostPort(to, 9000), answer)
		ok(t, err)
		_, err = mouth.Write([]byte("hello"))
		ok(t, err)
		ok(t, ear.SetReadDeadline(deadline(answer)))
		_, peer, err := ear.ReadFrom(make([]byte, 16))
		ok(t, err)
		ok(t, errors.Join(ear.Close(), mouth.Close()))
		late, err := dialAs(o.beyond, "udp", 9000, peer.String())
		ok(t, err)
		defer late.Close()
		ok(t, sandbox.Eventually(o.ctx, soon, "connection refused", func() error {
			_, err := sandbox.AskOn(late, "late", silence)
			if errors.Is(err, syscall.ECONNREFUSED) {
				return nil
			}
			return fmt.Errorf("got %w", err)
		}))
	})
}

// Two pods and the host use one port towards one remote at the same time, whoever
// came first.
func TestOnePortOfSeveral(t *testing.T) {
	o := startOut(t)
	one, two := o.pod("one"), o.pod("two")
	startMirror(t, o.beyond, 8080)
	orders := [][]*sandbox.NS{{one.NS, two.NS, sandbox.Host()}, {sandbox.Host(), one.NS, two.NS}}
	onBoth(t, func(t *testing.T, family int) {
		for i, order := range orders {
			for _, network := range []string{"tcp", "udp"} {
				var conns []net.Conn
				for _, ns := range order {
					conn, err := dialAs(ns, network, uint16(5555+i), hostPort(beyondAddrs()[family], 8080))
					ok(t, err)
					defer conn.Close()
					conns = append(conns, conn)
					// The first question opens a flow of UDP.
					_, err = whoAmI(conn)
					ok(t, err)
				}
				ports := map[netip.AddrPort]bool{}
				for k, conn := range conns {
					me, err := whoAmI(conn)
					if err != nil {
						t.Errorf("%s, order %d: %s hears nothing: %v", network, i, order[k].Name, err)
					}
					if me.Addr() != hostAddrs()[family] {
						t.Errorf("%s, order %d: %s is seen as %s", network, i, order[k].Name, me)
					}
					ports[me] = true
				}
				if len(ports) != len(conns) {
					t.Errorf("%s, order %d: they are seen as %v", network, i, ports)
				}
			}
		}
	})
}

const onlyBeyond = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: client, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: client}}
  egress:
  - toCIDRSet:
    - {cidr: 198.51.100.0/24}
    - {cidr: "2001:db8:2::/48"}
  ingress:
  - fromCIDRSet:
    - {cidr: 192.0.2.2/32}
    - {cidr: "2001:db8::2/128"}
`

// Policy is about the pod and whom it really talks to; what comes from outside,
// where somebody knows the way, keeps its source, and the answer the pod's address.
func TestPolicyOnTheWayOut(t *testing.T) {
	o := startOut(t)
	client := o.pod("client")
	serve(t, client, 9090)
	for _, ns := range []*sandbox.NS{o.world, o.beyond} {
		startMirror(t, ns, 8080)
	}
	o.write("policy.yaml", onlyBeyond)
	ok(t, o.world.Do(func() error { // a way to this pod
		for family, via := range hostAddrs() {
			a := addrs(client)[family]
			dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			if err := netlink.RouteAdd(&netlink.Route{Gw: via.AsSlice(), Dst: dst}); err != nil {
				return err
			}
		}
		return nil
	}))
	onBoth(t, func(t *testing.T, family int) {
		for _, network := range []string{"tcp", "udp"} {
			if me := seenAs(t, client.NS, network, beyondAddrs()[family]); me.Addr() != hostAddrs()[family] {
				t.Errorf("beyond sees the pod over %s as %s", network, me)
			}
			blocked(t, client.NS, network, worldAddrs()[family], 8080)
			reaches(t, o.world, network, addrs(client)[family], 9090)
			blocked(t, o.beyond, network, addrs(client)[family], 9090)
		}
	})
	ok(t, o.shown(client, agentv1.DropReason_DROP_REASON_POLICY_DEFAULT))
}

// When the ports towards one remote run out, that is told, others are not
// concerned, and it ends with the flows.
func TestPortsRunOut(t *testing.T) {
	o := startOutWith(t, "ipv6: true, firstPort: 40000, lastPort: 40003", "conntrack: {otherTimeout: 3s, tcpClosingTimeout: 1s}")
	one, two := o.pod("one"), o.pod("two")
	startMirror(t, o.beyond, 8080)
	startMirror(t, o.world, 8080)
	onBoth(t, func(t *testing.T, family int) {
		to := hostPort(beyondAddrs()[family], 8080)
		var open []net.Conn
		for port := uint16(40000); port <= 40003; port++ {
			conn, err := dialAs(one.NS, "udp", port, to)
			ok(t, err)
			defer conn.Close()
			_, err = whoAmI(conn)
			ok(t, err)
			open = append(open, conn)
		}
		before := o.drops(agentv1.DropReason_DROP_REASON_SNAT_PORTS)
		late, err := dialAs(two.NS, "udp", 40000, to)
		ok(t, err)
		defer late.Close()
		if _, err := sandbox.AskOn(late, "who", silence); err == nil {
			t.Error("a fifth flow was answered")
		}
		ok(t, o.counted(agentv1.DropReason_DROP_REASON_SNAT_PORTS, before, 1))
		ok(t, o.shown(two, agentv1.DropReason_DROP_REASON_SNAT_PORTS))
		if me := seenAs(t, two.NS, "udp", worldAddrs()[family]); me.Addr() != hostAddrs()[family] {
			t.Errorf("towards another remote, seen as %s", me)
		}
		seenAs(t, two.NS, "udp", beyondAddrs()[family])
		seenAs(t, two.NS, "tcp", beyondAddrs()[family])
		for _, conn := range open {
			if _, err := whoAmI(conn); err != nil {
				t.Errorf("an open flow broke: %v", err)
			}
		}
		ok(t, sandbox.Eventually(o.ctx, soon, "a port that came free", func() error {
			_, err := sandbox.AskOn(late, "who", silence)
			return err
		}))
	})
}

// TestTranslatedTrafficOutlivesTheAgent kills the agent, also in the middle of its
// start, under translated traffic of every kind.
func TestTranslatedTrafficOutlivesTheAgent(t *testing.T) {
	o := startOut(t)
	client, server := o.pod("client"), o.pod("server")
	o.write("policy.yaml", crashPolicies)
	tr := o.startTraffic(client, server)
	before, random := kernelState(t), rand.New(rand.NewPCG(level.Seed(), 0))
	for kills := range 3 {
		o.kill()
		tr.moves("while the agent is away")
		if kills == 1 {
			o.killDuringStart(random)
		}
		o.startAgent("weft-agent")
		tr.moves("after its return")
		tr.whole("after its return")
	}
	tr.stop("at the end")
	sameState(t, "after the last return", kernelState(t), before)
}

// TestTranslatedTrafficOverUpgrade goes to another release and back: to one whose
// programs differ, and to one whose conntrack has another layout.
func TestTranslatedTrafficOverUpgrade(t *testing.T) {
	for _, binary := range []string{"weft-agent-progalt", "weft-agent-ctalt"} {
		t.Run(binary, func(t *testing.T) {
			o := startOut(t)
			needVariant(t, o.bin, binary)
			client, server := o.pod("client"), o.pod("server")
			o.write("policy.yaml", crashPolicies)
			tr := o.startTraffic(client, server)
			o.kill()
			o.startAgent(binary)
			tr.moves("after the upgrade")
			tr.whole("after the upgrade")
			ok(t, o.agent.Stop())
			o.startAgent("weft-agent")
			tr.moves("after the rollback")
			tr.stop("after the rollback")
		})
	}
}
