// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// Bounds of traffic that must go on. They tell loss from a slow machine: a lost
// packet is told by the numbered streams and by the counters of drops, not by
// these.
const (
	requestTimeout = 10 * time.Second
	longestStall   = 10 * time.Second
)

// crashPolicies isolate both pods in both directions: answers pass by conntrack
// alone, and a flow that is forgotten is stopped.
const crashPolicies = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: server}}
  enableDefaultDeny: {ingress: true, egress: true}
  ingress:
  - fromEndpoints:
    - matchLabels: {name: client}
    toPorts:
    - ports:
      - {port: "8080"}
      - {port: "7000", endPort: 7002}
---
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: client, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: client}}
  enableDefaultDeny: {ingress: true, egress: true}
  egress:
  - toEndpoints:
    - matchLabels: {name: server}
  - toCIDRSet:
    - {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}
    - {cidr: "2001:db8::/32"}
    toPorts:
    - ports:
      - {port: "8080"}
      - {port: "7000", endPort: 7002}
`

// traffic is everything that must go on while the agent comes and goes.
type traffic struct {
	t        *testing.T
	loops    map[string]*sandbox.Loop
	streams  map[string]*sandbox.Stream
	numbered map[string]*numbered
	quiet    map[string]*quietFlow
	before   map[model.Reason]uint64
}

// startTraffic lets client, server, host and world talk in every way, over both
// families: kept and new connections over TCP and UDP, a long transfer, numbered
// datagrams, and flows on which the side speaks next that may not open one.
func (n *node) startTraffic(client, server *sandbox.Pod) *traffic {
	n.t.Helper()
	world, err := sandbox.StartEcho(n.world, "world", 8080)
	ok(n.t, err)
	n.t.Cleanup(world.Close)
	serve(n.t, server, 8080)
	tr := &traffic{t: n.t, loops: map[string]*sandbox.Loop{}, streams: map[string]*sandbox.Stream{},
		numbered: map[string]*numbered{}, quiet: map[string]*quietFlow{}}
	for family, name := range []string{"IPv4", "IPv6"} {
		pod, far := addrs(server)[family], worldAddrs()[family]
		// The wire to the world may still be looking for its own addresses' twins.
		ok(n.t, sandbox.Eventually(n.ctx, soon, "the world", func() error {
			_, err := sandbox.Ask(client.NS, "tcp", hostPort(far, 8080), "hello", answer)
			return err
		}))
		tr.loop("pod to pod "+name, client.NS, pod)
		tr.loop("host to pod "+name, sandbox.Host(), pod)
		tr.loop("pod to world "+name, client.NS, far)
		stream, err := sandbox.StartStream(sandbox.StreamConfig{NS: client.NS, Addr: hostPort(pod, 8080), Every: 5 * time.Millisecond})
		ok(n.t, err)
		tr.streams["transfer "+name] = stream
		tr.numbered["one way, pod to pod "+name] = startNumbered(n.t, client.NS, server.NS, pod, false)
		tr.numbered["answered, pod to pod "+name] = startNumbered(n.t, client.NS, server.NS, pod, true)
		tr.numbered["answered, pod to world "+name] = startNumbered(n.t, client.NS, n.world, far, true)
		for _, network := range []string{"tcp", "udp"} {
			tr.quiet[network+" pod to pod "+name] = startQuiet(n.t, network, client.NS, server.NS, pod)
			tr.quiet[network+" pod to world "+name] = startQuiet(n.t, network, client.NS, n.world, far)
		}
	}
	tr.moves("at the start")
	tr.before = dropped(n.t)
	return tr
}

func (tr *traffic) loop(name string, from *sandbox.NS, to netip.Addr) {
	for _, network := range []string{"tcp", "udp"} {
		for kind, fresh := range map[string]bool{"kept": false, "new": true} {
			tr.loops[kind+" "+network+" "+name] = sandbox.StartLoop(sandbox.LoopConfig{NS: from, Network: network,
				Addr: hostPort(to, 8080), Every: 50 * time.Millisecond, Timeout: requestTimeout, Fresh: fresh})
		}
	}
}

// moves waits until every kind of traffic has come further: 5 more answers of
// each loop, more bytes of each transfer, more datagrams of each stream.
func (tr *traffic) moves(when string) {
	tr.t.Helper()
	done, bytes, counts := map[string]int{}, map[string]uint64{}, map[string]uint64{}
	for name, l := range tr.loops {
		done[name] = l.Report().Done
	}
	for name, s := range tr.streams {
		bytes[name] = s.Progress().Echoed
	}
	for name, c := range tr.numbered {
		counts[name] = c.seen()
	}
	ok(tr.t, sandbox.Eventually(tr.t.Context(), 2*requestTimeout, "traffic goes on "+when, func() error {
		for name, l := range tr.loops {
			if l.Report().Done < done[name]+5 {
				return fmt.Errorf("%s stands: %v", name, l.Report().Failed)
			}
		}
		for name, s := range tr.streams {
			if p := s.Progress(); p.Echoed < bytes[name]+64<<10 {
				return fmt.Errorf("%s stands: %w", name, errors.Join(errors.New("no more bytes"), p.Err))
			}
		}
		for name, c := range tr.numbered {
			if c.seen() < counts[name]+20 {
				return fmt.Errorf("%s stands", name)
			}
		}
		return nil
	}))
}

// whole fails for anything that has broken so far.
func (tr *traffic) whole(when string) {
	tr.t.Helper()
	for name, l := range tr.loops {
		for _, f := range l.Report().Failed {
			tr.t.Errorf("%s, %s: a request failed at %s: %v", when, name, f.At.Format(time.TimeOnly), f.Err)
		}
	}
	for name, s := range tr.streams {
		if p := s.Progress(); p.Err != nil || p.Gap > longestStall {
			tr.t.Errorf("%s, %s: stood still for %s, error %v", when, name, p.Gap, p.Err)
		}
	}
	for name, q := range tr.quiet {
		if err := q.speak(); err != nil {
			tr.t.Errorf("%s, %s: what may not open a flow cannot speak on an open one: %v", when, name, err)
		}
	}
	if now := dropped(tr.t); !maps.Equal(now, tr.before) {
		tr.t.Errorf("%s, packets were dropped: before %v, now %v", when, tr.before, now)
	}
}

// stop ends the traffic and fails for whatever has broken.
func (tr *traffic) stop(when string) {
	tr.t.Helper()
	for name, c := range tr.numbered {
		if err := c.stop(tr.t); err != nil {
			tr.t.Errorf("%s, %s: %v", when, name, err)
		}
	}
	tr.whole(when)
	requests, datagrams, bytes, stall := 0, uint64(0), uint64(0), time.Duration(0)
	for _, l := range tr.loops {
		requests += l.Stop().Done
	}
	for _, s := range tr.streams {
		p := s.Stop()
		bytes, stall = bytes+p.Echoed, max(stall, p.Gap)
	}
	for _, c := range tr.numbered {
		datagrams += c.seen()
	}
	for _, q := range tr.quiet {
		q.close()
	}
	tr.t.Logf("%s: %d requests, %d numbered datagrams, %d MiB transferred, longest stall %s, none lost",
		when, requests, datagrams, bytes>>20, stall.Round(time.Millisecond))
}
