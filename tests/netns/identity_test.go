// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

func TestRelabellingReachesRunningConnections(t *testing.T) {
	w := newTown(t)
	role := func(name, role string) {
		w.declare(podSpec{namespace: "demo", name: name, labels: []string{"role=" + role}})
	}
	friend := w.talks(t, "friend -> server: "+runningTalks)
	stranger := w.talks(t, "stranger -> server: "+runningTalks)
	answered := w.talks(t, "server -> friend, stranger: "+runningTalks)
	w.write("policy.yaml", onlyRole("friend"))
	goOn(t, friend, "under the policy")
	areCut(t, stranger, "under the policy")

	role("friend", "stranger")
	areCut(t, friend, "when its pod is no friend any more")
	role("stranger", "friend")
	comeBack(t, stranger, "when its pod becomes a friend")
	goOn(t, answered, "when the pods that answer are relabelled")

	w.declare(podSpec{namespace: "demo", name: "server", labels: []string{"app=other"}})
	comeBack(t, friend, "when the policy selects the server no more")
	goOn(t, stranger, "when the policy selects the server no more")
	w.declare(podSpec{namespace: "demo", name: "server", labels: []string{"app=server"}})
	areCut(t, friend, "when the policy selects the server again")
	goOn(t, stranger, "when the policy selects the server again")
}

func TestRelabellingTheReceiverReachesRunningConnections(t *testing.T) {
	w := newTown(t)
	talks := w.talks(t, "friend -> server: "+runningTalks)
	back := w.talks(t, "server -> friend: "+runningTalks)
	w.write("policy.yaml", ruleCase{spec: fromFriend + "  egress: [{toEndpoints: [{matchLabels: {app: server}}]}]\n"}.policy("egress"))
	goOn(t, talks, "to a pod with the label")
	w.declare(podSpec{namespace: "demo", name: "server", labels: []string{"app=other"}})
	areCut(t, talks, "when the receiver loses the label")
	goOn(t, back, "in the direction without policy")
	w.declare(podSpec{namespace: "demo", name: "server", labels: []string{"app=server"}})
	comeBack(t, talks, "when the receiver has the label again")
}

func TestNamespaceLabelsReachRunningConnections(t *testing.T) {
	w := newTown(t)
	guest := w.talks(t, "guest -> server: "+runningTalks)
	w.write("policy.yaml", ruleCase{kind: "NetworkPolicy", spec: `
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]
`}.policy("red"))
	goOn(t, guest, "of a namespace with the label")
	team := func(name string) {
		w.write("namespaces.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: "+name+"}}\n")
	}
	team("green")
	areCut(t, guest, "when the namespace has another label")
	team("red")
	comeBack(t, guest, "when the namespace has the label again")
}

// A policy that names an address gives it an identity of its own, under the
// connections that it has.
func TestPrefixBecomesKnownUnderRunningConnections(t *testing.T) {
	w := newTown(t)
	in := w.talks(t, "world -> server: "+runningTalks)
	out := w.talks(t, "server -> world: "+runningTalks)
	const elsewhere = fromFriend + "  egress: [{toCIDR: [192.0.2.2/32, \"2001:db8::2/128\"]}]\n"
	w.write("elsewhere.yaml", ruleCase{spec: elsewhere}.policy("elsewhere"))
	goOn(t, in, "when a policy of another pod names its address")
	goOn(t, out, "when a policy of another pod names its address")

	w.write("policy.yaml", ruleCase{spec: toServer + "  ingress: [{fromEntities: [world]}]\n"}.policy("policy"))
	goOn(t, in, "from an address with an identity of its own, which is still of the world")
	w.remove("elsewhere.yaml")
	goOn(t, in, "when its address loses its identity")

	w.write("policy.yaml", ruleCase{spec: toServer + `
  ingress:
  - fromCIDRSet: [{cidr: 192.0.2.0/24}, {cidr: "2001:db8::/64"}]
`}.policy("policy"))
	goOn(t, in, "from an allowed prefix")
	w.write("policy.yaml", ruleCase{spec: toServer + `
  ingress:
  - fromCIDRSet:
    - {cidr: 192.0.2.0/24, except: [192.0.2.2/32]}
    - {cidr: "2001:db8::/64", except: ["2001:db8::2/128"]}
`}.policy("policy"))
	areCut(t, in, "when its address becomes an exception")
	goOn(t, out, "as its packets from there are answers")
	w.remove("policy.yaml")
	comeBack(t, in, "when the policy goes")
}

func TestAddressPassesToAnotherPod(t *testing.T) {
	n := startNode(t, `podCIDRs: [10.244.0.0/29, "fd00:10:244::/125"]`)
	server := n.pod("server", "app=server")
	serve(t, server, 8080)
	n.write("policy.yaml", `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: friends, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {role: friend}}]}]
  egress: [{toEndpoints: [{matchLabels: {role: friend}}]}]
`)
	onBoth(t, func(t *testing.T, family int) {
		name := []string{"friend4", "friend6"}[family]
		friend := n.pod(name, "role=friend")
		serve(t, friend, 8080)
		old := addrs(friend)[family]
		from := netip.AddrPortFrom(old, 5000)
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrs(server)[family], 8080))
		heard(t, friend.NS, from, to, true)
		outward := &talk{probe: probe{from: &place{name: "server"}, to: &place{name: name}, network: "udp", family: family}}
		var err error
		outward.conn, err = server.NS.Dial("udp", hostPort(old, 8080), answer)
		ok(t, err)
		defer outward.conn.Close()
		goOn(t, []*talk{outward}, "to a friend")

		n.drop(friend)
		heir := n.heir(old, family)
		serve(t, heir, 8080)
		heard(t, heir.NS, from, to, false)
		areCut(t, []*talk{outward}, "when the friend's address is a stranger's")
		n.drop(heir)
	})
}

// drop deletes a pod.
func (n *node) drop(p *sandbox.Pod) {
	n.t.Helper()
	ok(n.t, n.runtime.DelPod(n.ctx, p))
	n.forget(p)
	n.remove("pod-" + p.Name + ".yaml")
}

// heir adds pods without a role until one has the address.
func (n *node) heir(old netip.Addr, family int) *sandbox.Pod {
	n.t.Helper()
	for range 16 {
		p := n.pod("heir")
		if addrs(p)[family] == old {
			return p
		}
		n.drop(p)
	}
	n.t.Fatalf("address %s is not given to another pod", old)
	return nil
}

// heard asks by UDP from a fixed port, and fails unless the answer comes, or
// does not.
func heard(t *testing.T, ns *sandbox.NS, from netip.AddrPort, to net.Addr, want bool) {
	t.Helper()
	pc, err := ns.ListenPacket("udp", from.String())
	ok(t, err)
	defer pc.Close()
	_, err = pc.WriteTo([]byte("hello"), to)
	ok(t, err)
	timeout := silence
	if want {
		timeout = soon
	}
	ok(t, pc.SetReadDeadline(time.Now().Add(timeout)))
	_, _, err = pc.ReadFrom(make([]byte, 100))
	if want != (err == nil) {
		t.Errorf("%s asks %s: %v, want an answer: %v", from, to, err, want)
	}
}
