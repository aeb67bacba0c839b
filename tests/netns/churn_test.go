// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

const churnPort = 7100

// ear hears numbered datagrams with the name of their sender.
type ear struct {
	mu    sync.Mutex
	heard map[string]map[uint64]bool
}

func listen(t *testing.T, p *sandbox.Pod) *ear {
	t.Helper()
	e := &ear{heard: make(map[string]map[uint64]bool)}
	for _, a := range addrs(p) {
		pc, err := p.NS.ListenPacket("udp", hostPort(a, churnPort))
		ok(t, err)
		ok(t, deepBuffer(pc))
		t.Cleanup(func() { pc.Close() })
		go e.hear(pc) // until it is closed
	}
	return e
}

func (e *ear) hear(pc net.PacketConn) {
	buf := make([]byte, 256)
	for {
		n, _, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if n < 8 {
			continue
		}
		name := string(buf[8:n])
		e.mu.Lock()
		if e.heard[name] == nil {
			e.heard[name] = make(map[uint64]bool)
		}
		e.heard[name][binary.BigEndian.Uint64(buf)] = true
		e.mu.Unlock()
	}
}

// missing are the first numbers below sent that were not heard.
func (e *ear) missing(name string, sent uint64) (lost []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := range sent {
		if !e.heard[name][n] {
			lost = append(lost, n)
		}
	}
	return lost
}

func (e *ear) count(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.heard[name])
}

func (e *ear) names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.heard))
}

// say sends so many numbered datagrams, a new flow every twenty.
func say(ns *sandbox.NS, name string, to netip.Addr, first, count uint64, pause time.Duration) error {
	dst := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, churnPort))
	var pc net.PacketConn
	defer func() {
		if pc != nil {
			_ = pc.Close()
		}
	}()
	tick := time.NewTicker(max(pause, time.Microsecond))
	defer tick.Stop()
	for n := first; n < first+count; n++ {
		if pc == nil || n%20 == 0 {
			if pc != nil {
				_ = pc.Close()
			}
			var err error
			if pc, err = ns.ListenPacket("udp", ":0"); err != nil {
				return err
			}
		}
		if _, err := pc.WriteTo(append(binary.BigEndian.AppendUint64(nil, n), name...), dst); err != nil {
			return fmt.Errorf("%s sends datagram %d: %w", name, n, err)
		}
		<-tick.C
	}
	return nil
}

// speaker says numbered datagrams without end.
type speaker struct {
	name string
	sent uint64
	err  error
	quit chan struct{}
	done chan struct{}
}

func speak(p *sandbox.Pod, name string, to netip.Addr) *speaker {
	s := &speaker{name: name, quit: make(chan struct{}), done: make(chan struct{})}
	go func() { // until stop
		defer close(s.done)
		for s.err == nil {
			select {
			case <-s.quit:
				return
			default:
				s.err = say(p.NS, name, to, s.sent, 20, time.Millisecond)
				s.sent += 20
			}
		}
	}()
	return s
}

func (s *speaker) stop(t *testing.T) {
	t.Helper()
	close(s.quit)
	<-s.done
	ok(t, s.err)
}

// churn writes manifests at 50 a second that never change what role=friend and
// role=foe may: other labels of every pod, the policy in other words, policies with
// prefixes that come and go.
type churn struct {
	writes int
	err    error
	quit   chan struct{}
	done   chan struct{}
}

func startChurn() *churn {
	c := &churn{quit: make(chan struct{}), done: make(chan struct{})}
	go func() { // until stop
		defer close(c.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ; c.err == nil; c.writes++ {
			c.err = replaceManifest(churned(c.writes))
			select {
			case <-c.quit:
				return
			case <-tick.C:
			}
		}
	}()
	return c
}

func (c *churn) stop(t *testing.T) {
	t.Helper()
	close(c.quit)
	<-c.done
	ok(t, c.err)
}

func replaceManifest(name, text string) error {
	tmp := filepath.Join(filepath.Dir(manifestDir), "."+name)
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(manifestDir, name))
}

// churned is the n'th change.
func churned(n int) (file, text string) {
	switch n % 5 {
	case 0:
		return "pod-friend.yaml", role("friend", "friend", n)
	case 1:
		return "pod-foe.yaml", role("foe", "foe", n)
	case 2:
		return "policy.yaml", churnPolicy(n)
	case 3:
		return "pod-server.yaml", role("server", "server", n)
	}
	return "prefixes.yaml", fmt.Sprintf(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: prefixes, namespace: demo}
spec:
  endpointSelector: {}
  enableDefaultDeny: {egress: false}
  egressDeny: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.%d/32]}]}]
`, n%7)
}

// role is a pod's manifest whose version makes its identity one that was never there.
func role(name, role string, n int) string {
	return podSpec{namespace: "demo", name: name, labels: []string{"role=" + role, fmt.Sprint("version=", n)}}.manifest()
}

// churnPolicy says in one of several ways that friends may reach the server.
func churnPolicy(n int) string {
	rule := "  - fromEndpoints: [{matchLabels: {role: friend}}]\n"
	ports := "    toPorts: [{ports: [{port: \"%d\", endPort: 7200, protocol: UDP}]}]\n"
	text := `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingressDeny:
  - fromEndpoints: [{matchLabels: {role: foe}}]
  ingress:
`
	for i := range 1 + n/5%3 {
		text += rule + fmt.Sprintf(ports, 7000+10*i)
	}
	return text
}

// TestChurnPassesNothingForbiddenAndLosesNothingAllowed changes labels, policies
// and prefixes 50 times a second, while addresses pass from friends to foes and back
// and a pod changes its role. What every state allows loses no datagram, what every
// state forbids gets none through; after a change of role that is in the kernel, the
// new role holds from the first datagram to the last.
func TestChurnPassesNothingForbiddenAndLosesNothingAllowed(t *testing.T) {
	n := startNode(t, `podCIDRs: [10.244.0.0/29, "fd00:10:244::/125"]`)
	n.write("policy.yaml", churnPolicy(0))
	server := n.pod("server", "role=server")
	friend, foe, turncoat := n.pod("friend", "role=friend"), n.pod("foe", "role=foe"), n.pod("turncoat", "role=foe")
	e := listen(t, server)
	var speakers []*speaker
	for family, name := range []string{"IPv4", "IPv6"} {
		speakers = append(speakers, speak(friend, "friend "+name, addrs(server)[family]), speak(foe, "foe "+name, addrs(server)[family]))
	}
	before, started := n.status().GetDesiredRevision(), time.Now()
	c := startChurn()
	period := 6 * time.Second
	if level.Long() {
		period = 2 * time.Minute
	}
	turns := 0
	for ; turns < 2 || time.Since(started) < period; turns++ {
		n.turn(t, e, turncoat, server, turns)
		n.inherit(t, e, server, turns)
		if t.Failed() {
			break
		}
	}
	c.stop(t)
	n.settle()
	n.logDrops(t, "friend")
	revisions, took := n.status().GetDesiredRevision()-before, time.Since(started)
	t.Logf("%d changes and %d turns in %s, %d revisions", c.writes, turns, took.Round(time.Millisecond), revisions)
	if revisions < uint64(c.writes)/10 {
		t.Errorf("%d changes became only %d revisions", c.writes, revisions)
	}
	for _, s := range speakers {
		s.stop(t)
		if strings.HasPrefix(s.name, "friend") {
			if err := e.all(t, s.name, s.sent); err != nil {
				t.Error(err)
			}
		}
	}
	for _, name := range e.names() {
		if strings.Contains(name, "foe") {
			t.Errorf("%d datagrams of %s were let pass", e.count(name), name)
		}
	}
}

// logDrops logs what was dropped of a pod's, or of all if it is empty, and why.
func (n *node) logDrops(t *testing.T, pod string) {
	t.Helper()
	stream, err := n.agent.API().ObserveFlows(n.ctx, &agentv1.ObserveFlowsRequest{})
	ok(t, err)
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		f := r.GetFlow()
		if (pod == "" || f.GetSource().GetPod() == pod) && f.GetVerdict() == agentv1.Verdict_VERDICT_DROPPED {
			t.Logf("%s", f)
		}
	}
}

// all waits until so many datagrams were heard.
func (e *ear) all(t *testing.T, name string, sent uint64) error {
	return sandbox.Eventually(t.Context(), 5*time.Second, "every datagram", func() error {
		if lost := e.missing(name, sent); len(lost) > 0 {
			return fmt.Errorf("of %d datagrams of %s %d were lost: %v", sent, name, len(lost), lost[:min(10, len(lost))])
		}
		return nil
	})
}

// turn makes the turncoat a friend, and then a foe again.
func (n *node) turn(t *testing.T, e *ear, turncoat, server *sandbox.Pod, turn int) {
	t.Helper()
	for _, now := range []string{"friend", "foe"} {
		ok(t, replaceManifest("pod-turncoat.yaml", role("turncoat", now, turn)))
		n.hasLabel("turncoat", "role="+now)
		n.settle()
		n.tell(t, e, turncoat, fmt.Sprintf("%s %d", now, turn), server, now == "friend")
	}
}

// tell says a few datagrams, of which all must be heard, or at the end none.
func (n *node) tell(t *testing.T, e *ear, from *sandbox.Pod, name string, to *sandbox.Pod, want bool) {
	t.Helper()
	for family, ip := range []string{"IPv4", "IPv6"} {
		name := fmt.Sprintf("%s as %s %s", from.Name, name, ip)
		ok(t, say(from.NS, name, addrs(to)[family], 0, 20, time.Millisecond))
		if want {
			if err := e.all(t, name, 20); err != nil {
				t.Error(err)
			}
		}
	}
}

// hasLabel waits until the agent knows the label of an endpoint.
func (n *node) hasLabel(pod, label string) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.ctx, soon, pod+" with "+label, func() error {
		list, err := n.agent.API().ListEndpoints(n.ctx, &agentv1.ListEndpointsRequest{})
		if err != nil {
			return err
		}
		for _, e := range list.GetEndpoints() {
			if e.GetPod() == pod && slices.Contains(e.GetLabels(), "k8s:"+label) {
				return nil
			}
		}
		return fmt.Errorf("endpoints are %v", list.GetEndpoints())
	}))
}

// inherit has a friend come and go, and a foe come to its address.
func (n *node) inherit(t *testing.T, e *ear, server *sandbox.Pod, turn int) {
	t.Helper()
	friend := n.comes("guest", "friend")
	address := friend.IPv4
	n.tell(t, e, friend, fmt.Sprintf("friend %d", turn), server, true)
	n.goes(friend)
	for range 16 {
		heir := n.comes("heir", "foe")
		n.tell(t, e, heir, fmt.Sprintf("foe %d", turn), server, false)
		n.goes(heir)
		if heir.IPv4 == address {
			return
		}
	}
	t.Errorf("address %s is not given to another pod", address)
}

// comes attaches a pod, as soon as the agent has read of it.
func (n *node) comes(name, what string) (p *sandbox.Pod) {
	n.t.Helper()
	ok(n.t, replaceManifest("pod-"+name+".yaml", role(name, what, 0)))
	ok(n.t, sandbox.Eventually(n.ctx, soon, "the ADD of "+name, func() (err error) {
		p, err = n.runtime.AddPod(n.ctx, "demo", name)
		return err
	}))
	n.pods = append(n.pods, p)
	return p
}

func (n *node) goes(p *sandbox.Pod) {
	n.t.Helper()
	ok(n.t, n.runtime.DelPod(n.ctx, p))
	n.forget(p)
	ok(n.t, os.Remove(filepath.Join(manifestDir, "pod-"+p.Name+".yaml")))
}
