// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

const (
	race = "across-race"
	wave = 50 // racers at a time: nodes have room for 110 pods
)

// racePolicies: a racer, whose identity nobody has heard of before, may reach "open" and
// nobody else. "closed" lets nobody come who is not named, "denied" everybody but racers,
// and to "barred", which anybody may reach, racers may not go. To racers "welcome" may
// come, and nobody else.
const racePolicies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: across-race}
spec:
  podSelector: {matchLabels: {app: closed}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {ticket: gold}}}]}]
---
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: denied, namespace: across-race}
spec:
  endpointSelector: {matchLabels: {app: denied}}
  ingress: [{fromEntities: [all]}]
  ingressDeny: [{fromEndpoints: [{matchLabels: {racer: "yes"}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: across-race}
spec:
  podSelector: {matchLabels: {app: open}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {racer: "yes"}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: racers, namespace: across-race}
spec:
  podSelector: {matchLabels: {racer: "yes"}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: welcome}}}]}]
  egress: [{to: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [closed, denied, open]}]}}]}]
`

// raced starts pods that call from their first instruction on, and are called before.
func raced(c *town) {
	c.T.Helper()
	c.Namespace(race, "team: race")
	c.Apply(racePolicies)
	var targets []*pod
	for _, name := range []string{"closed", "denied", "open", "barred"} {
		targets = append(targets, newPod(race, name, 3, "app: "+name))
	}
	c.make(targets...)
	c.protected(targets)
	number := 0
	for left := level.Scale(200); left > 0; left -= wave {
		c.wave(targets, min(wave, left), &number)
	}
}

// protected waits until the policies of the targets are in force.
func (c *town) protected(targets []*pod) {
	c.T.Helper()
	by := c.pods["stranger1"]
	c.Eventually(settle, "protected", func() error {
		answers, err := c.try(c.pod(by), []attempt{{Proto: "tcp", To: at(targets[0].IPv4, firstPort)}, {Proto: "tcp", To: at(targets[1].IPv4, firstPort)},
			{Proto: "tcp", To: at(targets[2].IPv4, firstPort)}, {Proto: "tcp", To: at(targets[3].IPv4, firstPort)}})
		if err == nil && (answers[0].Error != "timeout" || answers[1].Error != "" || answers[2].Error != "timeout" || answers[3].Error != "") {
			return fmt.Errorf("%+v", answers)
		}
		return err
	})
	c.Shell("weft status --wait") // nobody there is denied yet, so that cannot be seen
}

// wave is one race.
func (c *town) wave(targets []*pod, count int, number *int) {
	c.T.Helper()
	sprayers := c.sprayers(count, *number)
	var all []*pod
	for range count {
		*number++
		p := newPod(race, fmt.Sprintf("racer%d", *number), 1+*number%2, fmt.Sprintf(`racer: "yes", number: "%s-%d"`, c.name, *number))
		p.args = []string{"hammer", p.Name}
		for _, t := range targets {
			kind := map[bool]string{true: "allowed", false: "forbidden"}[t.Name == "open"]
			p.args = append(p.args, kind+"="+at(t.IPv4, firstPort), kind+"="+at(t.IPv6, firstPort))
		}
		all = append(all, p)
	}
	c.make(all...)
	slowest := int64(0)
	for _, p := range all {
		slowest = max(slowest, c.fair(p, sprayers))
	}
	c.untouched(targets, all)
	c.T.Logf("%d racers: every one got through where it may, the last after %d ms, and none where not", len(all), slowest)
	c.away(append(all, sprayers...))
}

// tally see Tally of the program probe.
type tally struct {
	Calls, Passed int
	FirstMS       int64
}

// bound is how long a pod with a new identity may be kept from where it may go.
const bound = 10 * time.Second

// fair waits until a racer has got through everywhere it may, looks that it did nowhere
// else, and tells how long that took.
func (c *town) fair(p *pod, sprayers []*pod) (slowest int64) {
	c.T.Helper()
	c.Eventually(settle, p.Name+" gets through where it may", func() error {
		out, err := c.Node(p.Node).Run(c.T.Context(), fmt.Sprintf("%s ask http://%s:%d/tally", c.Program("probe"), p.IPv4, tallyPort))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		slowest = 0
		for what, n := range decode[map[string]tally](c.T, out) {
			switch allowed := strings.HasPrefix(what, "allowed"); {
			case !allowed && n.Passed > 0:
				c.T.Fatalf("%s, %s: %d of %d calls got through, the first after %d ms", p.Name, what, n.Passed, n.Calls, n.FirstMS)
			case allowed && n.Passed == 0:
				return fmt.Errorf("%s, %s: none of %d calls", p.Name, what, n.Calls)
			case allowed:
				slowest = max(slowest, n.FirstMS)
			}
		}
		seen, err := c.seen(p)
		if err == nil && seen[mark] > 0 {
			c.T.Fatalf("%s received %d datagrams from who may not send any", p.Name, seen[mark])
		}
		if err == nil && seen["welcome"] == 0 {
			return fmt.Errorf("%s received nothing from %s, which may send to it", p.Name, sprayers[1].Name)
		}
		return err
	})
	if time.Duration(slowest)*time.Millisecond > bound {
		c.T.Errorf("%s was kept for %d ms from where it may go", p.Name, slowest)
	}
	return slowest
}

// seen is who came to a pod.
func (c *town) seen(p *pod) (map[string]int, error) {
	out, err := c.tell(c.T.Context(), p, "seen", "{}")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return decode[map[string]int](c.T, out), nil
}

// untouched: no target but open has seen a racer, not even its first packet.
func (c *town) untouched(targets, racers []*pod) {
	c.T.Helper()
	for _, t := range targets {
		seen, err := c.seen(t)
		if err != nil {
			c.T.Fatal(err)
		}
		for _, r := range racers {
			for who, times := range seen {
				if t.Name != "open" && (strings.HasSuffix(who, " "+r.IPv4) || strings.HasSuffix(who, " "+r.IPv6)) {
					c.T.Errorf("%s has seen %s %d times: %s", t.Name, r.Name, times, who)
				}
			}
		}
	}
}

// sprayers send to all addresses that racers will get, before they have them: one that
// may not, and one that may. A node gives out one address after the other.
func (c *town) sprayers(count, number int) []*pod {
	c.T.Helper()
	more := count/2 + 8
	every := max(10, more*4*2*2/25) // 25 datagrams a millisecond would be too many
	var ranges []string
	for n := 1; n <= 2; n++ {
		scout := newPod(race, fmt.Sprintf("scout%d-%d", n, number), n, "app: scout")
		c.make(scout)
		for _, ip := range []string{scout.IPv4, scout.IPv6} {
			ranges = append(ranges, fmt.Sprintf("%s+%d", netip.MustParseAddr(ip).Next(), more))
		}
		c.away([]*pod{scout})
	}
	var all []*pod
	for name, word := range map[string]string{"intruder": mark, "welcome": "welcome"} {
		p := newPod(race, fmt.Sprintf("%s-%d", name, number), 3, "app: "+name)
		p.args = append([]string{"spray", p.Name, word, fmt.Sprint(every)}, ranges...)
		if all = append(all, p); name == "intruder" {
			all[0], all[len(all)-1] = p, all[0]
		}
	}
	c.make(all...)
	return all
}

// away removes pods, and waits until they are gone.
func (c *town) away(pods []*pod) {
	c.T.Helper()
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	ctx, cancel := context.WithTimeout(c.T.Context(), 2*time.Minute)
	defer cancel()
	if _, err := c.Cluster.Kubectl(ctx, append([]string{"delete", "pod", "--force", "-n", race}, names...)...); err != nil {
		c.T.Fatal(err)
	}
}
