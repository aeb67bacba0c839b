// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// dialog is an open connection and who answers on it.
type dialog struct {
	what   string
	conn   net.Conn
	with   string // the pod's name
	direct bool   // to the pod's own address
}

// dialogWith opens a connection and asks once.
func dialogWith(t *testing.T, from *sandbox.NS, network, to string) dialog {
	t.Helper()
	conn, err := from.Dial(network, to, answer)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	got, err := sandbox.AskOn(conn, "hello", answer)
	ok(t, err)
	with, _, _ := strings.Cut(got, " ")
	return dialog{what: from.Name + " " + network + " " + to, conn: conn, with: with}
}

// dialogsWithEach opens connections to the service until it has one to each of two
// backends, and one to a backend's own address.
func dialogsWithEach(t *testing.T, from *sandbox.NS, network string, family int, a *sandbox.Pod) (out []dialog) {
	t.Helper()
	have := make(map[string]bool)
	for len(have) < 2 {
		next := dialogWith(t, from, network, hostPort(serviceAddrs()[family], servicePort))
		if have[next.with] {
			ok(t, next.conn.Close())
			continue
		}
		out, have[next.with] = append(out, next), true
	}
	own := dialogWith(t, from, network, hostPort([]netip.Addr{a.IPv4, a.IPv6}[family], 8080))
	own.direct = true
	return append(out, own)
}

// goesOn asks once more.
func (k dialog) goesOn(t *testing.T, when string) {
	t.Helper()
	if got, err := sandbox.AskOn(k.conn, "still there?", answer); err != nil || !strings.HasPrefix(got, k.with+" ") {
		t.Errorf("%s: %s with %s: %q, %v", when, k.what, k.with, got, err)
	}
}

// ends waits for the connection's end, and for no answer.
func (k dialog) ends(t *testing.T, when string) {
	t.Helper()
	ok(t, k.conn.SetReadDeadline(time.Now().Add(soon)))
	begin := time.Now()
	n, err := k.conn.Read(make([]byte, 100))
	if !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("%s: %s with %s: %d bytes, %v", when, k.what, k.with, n, err)
	}
	if took := time.Since(begin); took > answer {
		t.Errorf("%s: %s with %s took %s to end", when, k.what, k.with, took)
	}
}

// allDialogs are connections of both protocols and families from a pod, the host and
// a namespace that is no pod.
func allDialogs(t *testing.T, n *node, client, a *sandbox.Pod) (out []dialog) {
	t.Helper()
	for family := range 2 {
		for _, network := range []string{"tcp", "udp"} {
			for _, from := range []*sandbox.NS{client.NS, sandbox.Host(), n.world} {
				out = append(out, dialogsWithEach(t, from, network, family, a)...)
			}
		}
	}
	return out
}

func TestConnectionsToRemovedBackendsEnd(t *testing.T) {
	n, client, a, b := serviceNode(t)
	if !endsSockets(n) {
		t.Skip("kernel: bpf_sock_destroy (6.5)")
	}
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	dialogs := allDialogs(t, n, client, a)
	for _, state := range []string{"{ready: false, serving: true, terminating: true}", "{ready: false}"} {
		n.write("service.yaml", serviceManifest("", append(ready(b), target{a, state})...))
		for _, k := range dialogs {
			k.goesOn(t, "while it is "+state)
		}
	}
	const destroyed = `weft_sockets_destroyed_total{protocol="tcp"}`
	before, err := metric(t, destroyed)
	ok(t, err)
	n.write("service.yaml", serviceManifest("", ready(b)...))
	gone := 0
	for _, k := range dialogs {
		if k.with == a.Name && !k.direct {
			k.ends(t, "when it is removed")
			gone++
		}
	}
	for _, k := range dialogs {
		if k.with == b.Name || k.direct {
			k.goesOn(t, "when the other one is removed")
		}
	}
	if now, err := metric(t, destroyed); err != nil || gone != 12 || now-before != 6 {
		t.Errorf("of %d connections that ended, %v were of TCP, %v", gone, now-before, err)
	}
	// A backend goes while no agent looks; the others have the same numbers after.
	n.write("service.yaml", serviceManifest("", ready(a, b)...))
	dialogs = append(dialogsWithEach(t, client.NS, "tcp", 0, a), dialogsWithEach(t, sandbox.Host(), "udp", 1, a)...)
	ok(t, n.agent.Kill())
	n.put("service.yaml", serviceManifest("", ready(b)...))
	for _, k := range dialogs {
		k.goesOn(t, "without an agent")
	}
	n.startAgent("weft-agent")
	for _, k := range dialogs {
		if k.with == a.Name && !k.direct {
			k.ends(t, "when an agent is back")
		}
	}
	for _, k := range dialogs {
		if k.with == b.Name || k.direct {
			k.goesOn(t, "when an agent is back")
		}
	}
	// And the service goes as a whole.
	last := dialogWith(t, client.NS, "tcp", hostPort(serviceAddrs()[0], servicePort))
	n.remove("service.yaml")
	last.ends(t, "without the service")
}

// endsSockets tells whether the agent found that the kernel can.
func endsSockets(n *node) bool {
	for _, c := range n.status().GetComponents() {
		if c.GetName() == "sockets" {
			return !strings.Contains(c.GetMessage(), "cannot")
		}
	}
	return false
}
