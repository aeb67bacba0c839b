// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// rebooted is the node that is rebooted.
const rebooted = 3

// bootPolicies: servers hear friends alone, pods that are mute may call nobody, and what
// foes may call is open until the policy named changed is there.
const bootPolicies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: NS}
spec:
  podSelector: {matchLabels: {role: shut}}
  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mute, namespace: NS}
spec: {podSelector: {matchLabels: {role: mute}}, policyTypes: [Egress]}
`

const changedPolicy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: changed, namespace: NS}
spec:
  podSelector: {matchLabels: {role: open}}
  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]
`

// A node is switched off and on, with its disk as it was, or with nothing left of what
// Weft had written there.
func TestANodeIsRebooted(t *testing.T) {
	installed(t)
	t.Run("disk lost", func(t *testing.T) { again(t).reboots("outage-lost", true) })
	t.Run("disk kept", func(t *testing.T) { again(t).reboots("outage-kept", false) })
}

// boot is what is looked at while a node is rebooted.
type boot struct {
	w                 *world
	friend, foe       *pod // on the first node; the foe calls all addresses of the rebooted one
	guarded, listener *pod // there, too: servers that hear friends alone, and everybody
	shut, open        *pod // on the node, and servers
	mute, foeThere    *pod // on the node, calling the listener and the guarded one
	mover, goner      *pod // friends on the node: one is made on another meanwhile, one goes
}

func (w *world) reboots(namespace string, wipe bool) {
	l := w.loaded(namespace + "-load")
	b := w.boot(namespace)
	w.Eventually(10*time.Second, "reached", func() error {
		return errors.Join(w.Connects(b.friend, b.shut.IPv4, 7000), w.Connects(b.friend, b.open.IPv4, 7000), w.Connects(b.foe, b.open.IPv4, 7000))
	})
	w.isolated(b.foe, b.shut.IPv4)
	before := strings.Fields(w.Kubectl("get pods -A --field-selector=spec.nodeName=" + w.Node(rebooted).Name() + " -o jsonpath={.items[*].status.podIPs[*].ip}"))
	if wipe {
		w.On(rebooted, "rm -rf /var/lib/weft/*")
	}
	if err := w.Node(rebooted).PowerOff(w.T.Context()); err != nil {
		w.T.Fatal(err)
	}
	b.changeMeanwhile()
	if err := w.Node(rebooted).Start(); err != nil {
		w.T.Fatal(err)
	}
	begun := time.Now()
	for _, p := range []*pod{b.shut, b.open, b.mute, b.foeThere} {
		w.startedAnew(p)
	}
	w.T.Logf("its pods run again after %.1f s", time.Since(begun).Seconds())
	for _, p := range []*pod{b.shut, b.open, b.mute, b.foeThere} {
		if slices.Contains(before, p.IPv4) || slices.Contains(before, p.IPv6) {
			w.T.Errorf("%s has an address of before the reboot, %s or %s, that others may know for another's", p.Name, p.IPv4, p.IPv6)
		}
	}
	w.Settled()
	b.hold()
	w.Eventually(20*time.Second, "the same identities everywhere", w.identitiesAgree)
	l.nothingLost()
	w.Drop("namespace " + namespace)
	w.Drop("namespace " + l.namespace)
	w.Eventually(20*time.Second, "without an address of a pod that is gone", w.identitiesAgree)
}

func (w *world) boot(namespace string) *boot {
	w.T.Helper()
	w.namespace(namespace)
	w.Apply(strings.ReplaceAll(bootPolicies, "NS", namespace))
	pod := func(name string, node int, role string, args ...string) *pod {
		return newPod(namespace, name, node, role, args...)
	}
	b := &boot{w: w, friend: pod("friend", 1, "friend"), guarded: pod("guarded", 1, "shut"), listener: pod("listener", 1, "listener"),
		shut: pod("shut", rebooted, "shut"), open: pod("open", rebooted, "open"),
		mover: pod("mover", rebooted, "friend"), goner: pod("goner", rebooted, "friend")}
	// The first pods of the node are friends: their addresses are given out first again
	// where nothing is known of them.
	w.Make(b.mover, b.goner)
	w.Make(b.friend, b.guarded, b.listener, b.shut, b.open)
	b.mute = pod("mute", rebooted, "mute", calls(b.listener.IPv4, b.listener.IPv6)...)
	b.foeThere = pod("foe-there", rebooted, "foe", calls(b.guarded.IPv4, b.guarded.IPv6)...)
	b.foe = pod("foe", 1, "foe", calls(w.neighbourhood(b.mover, 60)...)...)
	w.Make(b.mute, b.foeThere, b.foe)
	return b
}

// calls are arguments of traffic: datagrams to all addresses.
func calls(addresses ...string) []string {
	all := []string{"call"}
	for _, a := range addresses {
		all = append(all, a+"=probe,"+netip.AddrPortFrom(netip.MustParseAddr(a), 7000).String())
	}
	return all
}

// neighbourhood are addresses from the first of a pod's range on.
func (w *world) neighbourhood(p *pod, count int) []string {
	var all []string
	for _, a := range []string{p.IPv4, p.IPv6} {
		bits := 24
		if strings.Contains(a, ":") {
			bits = 64
		}
		at := netip.PrefixFrom(netip.MustParseAddr(a), bits).Masked().Addr().Next()
		for range count {
			at = at.Next()
			all = append(all, at.String())
		}
	}
	return all
}

// changeMeanwhile changes what the node will find when it is back.
func (b *boot) changeMeanwhile() {
	w := b.w
	w.T.Helper()
	namespace := b.shut.Namespace
	w.Apply(strings.ReplaceAll(changedPolicy, "NS", namespace))
	w.Kubectl("delete pod -n " + namespace + " --force --grace-period=0 mover goner")
	b.mover.Node = 2
	w.Make(b.mover)
	w.Eventually(10*time.Second, "reached: mover", func() error { return w.Connects(b.foe, b.mover.IPv4, 7000) })
}

// startedAnew waits until a pod's container runs once more, and learns its addresses.
func (w *world) startedAnew(p *pod) {
	w.T.Helper()
	w.Eventually(120*time.Second, "started anew: "+p.Name, func() error {
		out, err := w.Cluster.Kubectl(w.T.Context(), "get", "pod", p.Name, "-n", p.Namespace, "-o",
			"jsonpath={.status.containerStatuses[0].restartCount},{.status.containerStatuses[0].ready}")
		if err == nil && out != "1,true" {
			err = fmt.Errorf("restarts and ready: %s", out)
		}
		return err
	})
	w.Addresses(p)
}

// hold: friends reach what they may, and nobody was heard who may not have been, since
// the pods began.
func (b *boot) hold() {
	w := b.w
	w.T.Helper()
	w.Eventually(20*time.Second, "reached", func() error {
		return errors.Join(w.Connects(b.friend, b.shut.IPv4, 7000), w.Connects(b.friend, b.open.IPv6, 7000),
			w.Connects(b.mover, b.shut.IPv4, 7000), w.Connects(b.mover, b.guarded.IPv6, 7000), w.Connects(b.foe, b.mover.IPv4, 7000))
	})
	w.isolated(b.foe, b.open.IPv4)
	w.isolated(b.foeThere, b.guarded.IPv6)
	for server, friends := range map[*pod][]*pod{
		b.shut: {b.friend, b.mover}, b.open: {b.friend}, b.guarded: {b.mover}, b.listener: {}} {
		var heard map[string]int
		if err := w.Ask(server, "heard", &heard); err != nil {
			w.T.Fatal(err)
		}
		for from, count := range heard {
			if !slices.ContainsFunc(friends, func(p *pod) bool { return from == p.IPv4 || from == p.IPv6 }) {
				w.T.Errorf("%s has heard %d times from %s, which may not reach it", server.Name, count, from)
			}
		}
	}
	counts := w.Counts(b.foe, "counts")
	for _, p := range []*pod{b.shut, b.open} {
		for _, a := range []string{p.IPv4, p.IPv6} {
			if counts[a].Sent < 100 {
				w.T.Errorf("the foe has called %s, of %s, %d times only: another address was expected", a, p.Name, counts[a].Sent)
			}
		}
	}
}

// identitiesAgree: every node has the identities that the node of a pod has.
func (w *world) identitiesAgree() error {
	want := ""
	for _, n := range w.Nodes() {
		out, err := n.Run(w.T.Context(), "weft endpoint list -o json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var list struct {
			Endpoints []struct {
				Identity   uint32
				IPv4, IPv6 string
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		for _, e := range list.Endpoints {
			want += fmt.Sprintf("%s %d\n%s %d\n", e.IPv4, e.Identity, e.IPv6, e.Identity)
		}
	}
	for i := range w.Nodes() {
		if err := lines(want, w.podIdentities(i+1)); err != nil {
			return fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	return nil
}
