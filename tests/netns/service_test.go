// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

const servicePort = 80

// serviceAddrs are the cluster addresses of the service "web", by family.
func serviceAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10")}
}

// target is a backend of the service with its conditions.
type target struct {
	pod        *sandbox.Pod
	conditions string
}

func ready(pods ...*sandbox.Pod) (out []target) {
	for _, p := range pods {
		out = append(out, target{p, "{ready: true}"})
	}
	return out
}

func leaving(p *sandbox.Pod) target {
	return target{p, "{ready: false, serving: true, terminating: true}"}
}

// serviceManifest is the service "web" of both families, over TCP and UDP, whose
// named target port the slices say to be 8080.
func serviceManifest(extra string, targets ...target) string {
	addrs := serviceAddrs()
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  clusterIP: %q
  clusterIPs: [%q, %q]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
%s  ports:
  - {name: tcp, port: 80, targetPort: web}
  - {name: udp, port: 80, targetPort: web, protocol: UDP}
`, addrs[0], addrs[0], addrs[1], extra)
	for i, family := range []string{"IPv4", "IPv6"} {
		fmt.Fprintf(&b, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-%d, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: %s
ports:
- {name: tcp, port: 8080}
- {name: udp, port: 8080, protocol: UDP}
endpoints:%s
`, i, family, map[bool]string{true: " []"}[len(targets) == 0])
		for _, t := range targets {
			fmt.Fprintf(&b, "- {addresses: [%q], conditions: %s, targetRef: {kind: Pod, namespace: demo, name: %s}}\n",
				[]netip.Addr{t.pod.IPv4, t.pod.IPv6}[i], t.conditions, t.pod.Name)
		}
	}
	return b.String()
}

// serviceNode is a node with a client and two backends.
func serviceNode(t *testing.T, settings ...string) (n *node, client, a, b *sandbox.Pod) {
	t.Helper()
	n = startNode(t, settings...)
	client, a, b = n.pod("client"), n.pod("back-a"), n.pod("back-b")
	serve(t, a, 8080)
	serve(t, b, 8080)
	return n, client, a, b
}

// answered counts who answers new connections to the service.
func answered(t *testing.T, from *sandbox.NS, network string, to netip.Addr, times int) map[string]int {
	t.Helper()
	by := make(map[string]int)
	for range times {
		got, err := sandbox.Ask(from, network, hostPort(to, servicePort), "hello", answer)
		if err != nil {
			t.Fatalf("%s over %s to the service %s: %v", from.Name, network, to, err)
		}
		name, _, _ := strings.Cut(got, " ")
		by[name]++
	}
	return by
}

func TestServiceReachesItsBackends(t *testing.T) {
	n, client, a, b := serviceNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	onBoth(t, func(t *testing.T, family int) {
		to := serviceAddrs()[family]
		for _, network := range []string{"tcp", "udp"} {
			// A pod, the host, a namespace that is no pod, a backend itself.
			for _, from := range []*sandbox.NS{client.NS, sandbox.Host(), n.world, a.NS} {
				by := answered(t, from, network, to, 24)
				if len(by) != 2 {
					t.Errorf("from %s over %s, of two backends these answer: %v", from.Name, network, by)
				}
			}
			conn, err := client.NS.Dial(network, hostPort(to, servicePort), answer)
			ok(t, err)
			defer conn.Close()
			if got := peerName(t, conn); got != netip.AddrPortFrom(to, servicePort) {
				t.Errorf("%s: the peer is called %s, not %s", network, got, to)
			}
		}
	})
}

// peerName is what getpeername says, and not what the runtime remembers.
func peerName(t *testing.T, conn net.Conn) netip.AddrPort {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	ok(t, err)
	var sa syscall.Sockaddr
	var failed error
	ok(t, raw.Control(func(fd uintptr) { sa, failed = syscall.Getpeername(int(fd)) }))
	ok(t, failed)
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("peer %T", sa)
	return netip.AddrPort{}
}

// One socket without a connection talks to the service and to a pod: answers
// bear the address that was asked, and the backend stays the same.
func TestUnconnectedSockets(t *testing.T) {
	n, client, a, b := serviceNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	onBoth(t, func(t *testing.T, family int) {
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(serviceAddrs()[family], servicePort))
		seen := make(map[string]bool)
		for range 12 {
			pc, err := client.NS.ListenPacket("udp", []string{"0.0.0.0:0", "[::]:0"}[family])
			ok(t, err)
			defer pc.Close()
			first := askFrom(t, pc, to)
			for range 5 {
				if again := askFrom(t, pc, to); again != first {
					t.Errorf("one socket, but %s after %s", again, first)
				}
			}
			seen[first] = true
		}
		if len(seen) != 2 {
			t.Errorf("of two backends these answer: %v", seen)
		}
	})
	t.Run("IPv4 by an IPv6 socket", func(t *testing.T) {
		pc, err := client.NS.ListenPacket("udp", ":0") // [::], for both families
		ok(t, err)
		defer pc.Close()
		askFrom(t, pc, net.UDPAddrFromAddrPort(netip.AddrPortFrom(serviceAddrs()[0], servicePort)))
		ok(t, client.NS.Do(func() error { return connectMapped(serviceAddrs()[0]) }))
	})
}

// askFrom asks once and tells who answers; the answer must come from whom was
// asked.
func askFrom(t *testing.T, pc net.PacketConn, to *net.UDPAddr) string {
	t.Helper()
	ok(t, pc.SetDeadline(time.Now().Add(answer)))
	_, err := pc.WriteTo([]byte("hello"), to)
	ok(t, err)
	buf := make([]byte, 100)
	size, from, err := pc.ReadFrom(buf)
	ok(t, err)
	if got := from.(*net.UDPAddr).AddrPort(); netip.AddrPortFrom(got.Addr().Unmap(), got.Port()) != to.AddrPort() {
		t.Errorf("asked %s, the answer is from %s", to, got)
	}
	name, _, _ := strings.Cut(string(buf[:size]), " ")
	return name
}

// connectMapped connects a TCP socket of IPv6 to ::ffff:a.b.c.d.
func connectMapped(to netip.Addr) error {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	want := &syscall.SockaddrInet6{Port: servicePort, Addr: to.As16()}
	if err := syscall.Connect(fd, want); err != nil {
		return fmt.Errorf("connecting to the mapped address: %w", err)
	}
	got, err := syscall.Getpeername(fd)
	if err != nil {
		return err
	}
	if peer, is6 := got.(*syscall.SockaddrInet6); !is6 || peer.Addr != want.Addr || peer.Port != servicePort {
		return fmt.Errorf("the peer is called %+v", got)
	}
	return nil
}

func TestServiceWithoutEndpointsRefusesAtOnce(t *testing.T) {
	n, client, a, _ := serviceNode(t)
	for _, targets := range [][]target{nil, {leaving(a)}, {{a, "{ready: false}"}}} {
		n.write("service.yaml", serviceManifest(fmt.Sprintf("  # %d\n  internalTrafficPolicy: Cluster\n", len(targets)), targets...))
		onBoth(t, func(t *testing.T, family int) {
			to := hostPort(serviceAddrs()[family], servicePort)
			for _, network := range []string{"tcp", "udp"} {
				begin := time.Now()
				_, err := sandbox.Ask(client.NS, network, to, "hello", answer)
				if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begin) > answer/2 {
					t.Errorf("%s: %v after %s, want a refusal at once", network, err, time.Since(begin))
				}
			}
		})
	}
}

func TestBackendsComeAndGo(t *testing.T) {
	n, client, a, b := serviceNode(t)
	before := kernelState(t)
	n.write("service.yaml", serviceManifest("", ready(a)...))
	open := make([]net.Conn, 2)
	for i := range open {
		var err error
		open[i], err = client.NS.Dial("tcp", hostPort(serviceAddrs()[i], servicePort), answer)
		ok(t, err)
		defer open[i].Close()
	}
	loops := []*sandbox.Loop{}
	for i := range 2 {
		for _, network := range []string{"tcp", "udp"} {
			loops = append(loops, sandbox.StartLoop(sandbox.LoopConfig{NS: client.NS, Network: network,
				Addr: hostPort(serviceAddrs()[i], servicePort), Every: 2 * time.Millisecond, Timeout: soon, Fresh: true}))
		}
	}
	only := func(want *sandbox.Pod) {
		t.Helper()
		for i := range 2 {
			if by := answered(t, client.NS, "tcp", serviceAddrs()[i], 16); by[want.Name] != 16 {
				t.Errorf("only %s is to answer, but %v do", want.Name, by)
			}
		}
	}
	only(a)
	n.write("service.yaml", serviceManifest("", append(ready(b), leaving(a))...))
	only(b) // nothing new for the one that is leaving
	for _, c := range open {
		got, err := sandbox.AskOn(c, "still there?", answer)
		if err != nil || !strings.HasPrefix(got, a.Name+" ") {
			t.Errorf("an open connection to the one that is leaving: %q, %v", got, err)
		}
	}
	askOn(t, loops) // what was asked before it was leaving has been answered
	n.write("service.yaml", serviceManifest("", ready(b)...))
	only(b)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	n.write("service.yaml", serviceManifest("", append(ready(a), leaving(b))...))
	askOn(t, loops)
	n.write("service.yaml", serviceManifest("", ready(a)...))
	only(a)
	for _, l := range loops {
		r := l.Stop()
		if r.Done < 20 || len(r.Failed) > 0 {
			t.Errorf("%d answers, failures: %v", r.Done, r.Failed)
		}
	}
	n.remove("service.yaml")
	for i := range 2 {
		blocked(t, client.NS, "tcp", serviceAddrs()[i], servicePort)
	}
	sameState(t, "without the service", kernelState(t), before)
	sameState(t, "with what a fresh agent writes", before, n.fresh())
}

func TestClientsKeepTheirBackend(t *testing.T) {
	n, client, a, b := serviceNode(t)
	n.write("service.yaml", serviceManifest("  sessionAffinity: ClientIP\n", ready(a, b)...))
	onBoth(t, func(t *testing.T, family int) {
		to := serviceAddrs()[family]
		first := answered(t, client.NS, "tcp", to, 16)
		if len(first) != 1 {
			t.Errorf("one client, but these answer: %v", first)
		}
	})
	// The one that was not chosen goes: nobody notices. Then the chosen one goes.
	chosen, spare := a, b
	if answered(t, client.NS, "tcp", serviceAddrs()[0], 1)[b.Name] == 1 {
		chosen, spare = b, a
	}
	n.write("service.yaml", serviceManifest("  sessionAffinity: ClientIP\n", ready(chosen)...))
	if by := answered(t, client.NS, "tcp", serviceAddrs()[0], 8); by[chosen.Name] != 8 {
		t.Errorf("%s was chosen and stays, but %v answer", chosen.Name, by)
	}
	n.write("service.yaml", serviceManifest("  sessionAffinity: ClientIP\n", ready(spare)...))
	if by := answered(t, client.NS, "tcp", serviceAddrs()[0], 8); by[spare.Name] != 8 {
		t.Errorf("only %s is left, but %v answer", spare.Name, by)
	}
}

func TestServicesOutliveTheAgent(t *testing.T) {
	n, client, a, b := serviceNode(t)
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	var loops []*sandbox.Loop
	for i := range 2 {
		for _, network := range []string{"tcp", "udp"} {
			loops = append(loops, sandbox.StartLoop(sandbox.LoopConfig{NS: client.NS, Network: network,
				Addr: hostPort(serviceAddrs()[i], servicePort), Every: 2 * time.Millisecond, Timeout: soon, Fresh: true}))
		}
	}
	for _, binary := range []string{"weft-agent", "weft-agent-progalt", "weft-agent"} {
		ok(t, n.agent.Kill())
		for i := range 2 {
			if by := answered(t, client.NS, "tcp", serviceAddrs()[i], 24); len(by) != 2 {
				t.Errorf("without an agent, of two backends these answer: %v", by)
			}
		}
		n.startAgent(binary)
		n.settle()
	}
	for _, l := range loops {
		r := l.Stop()
		if r.Done < 20 || len(r.Failed) > 0 {
			t.Errorf("%d answers, failures: %v", r.Done, r.Failed)
		}
	}
	services, err := n.agent.API().ListServices(n.ctx, &agentv1.ListServicesRequest{})
	ok(t, err)
	if len(services.GetServices()) != 1 || len(services.GetServices()[0].GetFrontends()) != 4 {
		t.Fatalf("services: %v", services)
	}
	for _, f := range services.GetServices()[0].GetFrontends() {
		for _, backend := range f.GetBackends() {
			if backend.GetHits() == 0 || backend.GetState() != "ready" {
				t.Errorf("%s: backend %v was hit and is ready", f.GetAddress(), backend)
			}
		}
	}
}
