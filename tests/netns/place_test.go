// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// place is where traffic comes from and goes to: a pod, the host, or somewhere
// in the world.
type place struct {
	name  string
	ns    *sandbox.NS
	addrs []netip.Addr // by family
}

// town is a node with pods that do without labels what most scenarios need:
//
//	friend, stranger, server   pods of namespace demo, with role and tier
//	guest                      a friend of server by its label, in namespace other (team: red)
//	host                       the node
//	world, far                 two networks that are neither
//
// Each serves TCP and UDP on ports 8080, which pods call web, and 9090.
type town struct {
	*node
	places map[string]*place
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{node: startNode(t), places: make(map[string]*place)}
	w.write("namespaces.yaml", `
apiVersion: v1
kind: Namespace
metadata: {name: demo, labels: {team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: red}}
`)
	for _, p := range []podSpec{
		{namespace: "demo", name: "friend", account: "trusted", labels: []string{"role=friend", "tier=gold"}},
		{namespace: "demo", name: "stranger", labels: []string{"role=stranger", "tier=iron"}},
		{namespace: "demo", name: "server", labels: []string{"app=server"}},
		{namespace: "other", name: "guest", labels: []string{"role=friend", "tier=gold"}},
	} {
		pod := w.add(p)
		w.places[p.name] = &place{name: p.name, ns: pod.NS, addrs: addrs(pod)}
	}
	w.places["host"] = &place{name: "host", ns: sandbox.Host(), addrs: hostAddrs()}
	w.places["world"] = &place{name: "world", ns: w.world, addrs: worldAddrs()}
	w.places["far"] = &place{name: "far", ns: w.far, addrs: farAddrs()}
	for _, p := range w.places {
		for _, port := range []uint16{8080, 9090} {
			e, err := sandbox.StartEcho(p.ns, p.name, port)
			ok(t, err)
			t.Cleanup(e.Close)
		}
	}
	return w
}

// probe is one question that is asked of the datapath.
type probe struct {
	from, to *place
	network  string // tcp, udp or ping
	port     uint16
	family   int
	pass     bool
}

func (p probe) String() string {
	what := p.network
	if p.port != 0 {
		what += fmt.Sprintf(" %d", p.port)
	}
	return fmt.Sprintf("%s to %s by %s over %s", p.from.name, p.to.name, what, []string{"IPv4", "IPv6"}[p.family])
}

// attempt is nil if the answer comes in time.
func (p probe) attempt(timeout time.Duration) error {
	to := p.to.addrs[p.family]
	if p.network == "ping" {
		return sandbox.Ping(p.from.ns, to.String(), timeout)
	}
	_, err := sandbox.Ask(p.from.ns, p.network, hostPort(to, p.port), "hello", timeout)
	return err
}

// probes reads lines such as
//
//	friend, world -> server: tcp 8080, ping6
//	stranger -x server: tcp 8080, udp 8080, ping
//
// where -> must get an answer and -x must not. A 4 or 6 behind the protocol
// means that family alone.
func (w *town) probes(t *testing.T, text string) []probe {
	t.Helper()
	var out []probe
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		ends, whats, found := strings.Cut(line, ":")
		from, to, pass := strings.Cut(ends, "->")
		if !pass {
			from, to, _ = strings.Cut(ends, "-x")
		}
		if !found || to == "" {
			t.Fatalf("no probe: %q", line)
		}
		for _, f := range list(from) {
			for _, d := range list(to) {
				if w.places[f] == nil || w.places[d] == nil {
					t.Fatalf("unknown place in %q", line)
				}
				for _, what := range list(whats) {
					out = append(out, parseProbe(t, probe{from: w.places[f], to: w.places[d], pass: pass}, what)...)
				}
			}
		}
	}
	return out
}

func parseProbe(t *testing.T, p probe, what string) []probe {
	t.Helper()
	name, _, _ := strings.Cut(what, " ")
	p.network = strings.TrimRight(name, "46")
	if p.network != "ping" {
		if _, err := fmt.Sscanf(what, name+" %d", &p.port); err != nil {
			t.Fatalf("no port in %q: %v", what, err)
		}
	}
	var out []probe
	for family, digit := range []string{"4", "6"} {
		if name == p.network || strings.HasSuffix(name, digit) {
			p.family = family
			out = append(out, p)
		}
	}
	return out
}

func list(s string) []string {
	var out []string
	for item := range strings.SplitSeq(s, ",") {
		out = append(out, strings.TrimSpace(item))
	}
	return out
}

// check tries all probes at once.
func (w *town) check(t *testing.T, text string) {
	t.Helper()
	probes := w.probes(t, text)
	results := make([]chan error, len(probes))
	for i, p := range probes {
		timeout := silence
		if p.pass {
			timeout = soon
		}
		results[i] = make(chan error, 1)
		go func() { results[i] <- p.attempt(timeout) }()
	}
	for i, p := range probes {
		switch err := <-results[i]; {
		case p.pass && err != nil:
			t.Errorf("%s must pass: %v", p, err)
		case !p.pass && err == nil:
			t.Errorf("%s must not pass", p)
		}
	}
}
