// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/reference"
	"github.com/weftmesh/weft/tests/policygen"
)

// node is a world in which everybody has addresses. Of its pods some are here,
// the others on other nodes.
type node struct {
	policygen.World
	out     policy.Output
	parties []party
	bounds  []uint16
	extra   []model.IPRow // of pods and of what is reserved
}

// party is somebody who sends or receives.
type party struct {
	reference.Party
	id         model.IdentityID
	pod        int    // index of a pod
	slot       uint16 // of a pod that is here
	addrs      map[int]netip.Addr
	translated bool // it sends from the host's address, but from outside
}

func newNode(t *rapid.T) *node {
	cluster := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/64")}
	n := &node{World: policygen.NewWorld(t, policy.Locals{}, cluster)}
	n.out, n.bounds = compile(t, n.World), policygen.Bounds(n.In.Policies)
	here := max(1, len(n.Pods)-policygen.Pick(t, "elsewhere", 0, 1, 2))
	for i, p := range n.Pods {
		who := party{Party: p, id: model.MinClusterIdentity + model.IdentityID(i), pod: i,
			addrs: addresses(fmt.Sprint("10.244.0.", i+1), fmt.Sprint("fd00:10:244::", i+1))}
		if i < here {
			who.slot = uint16(i + 1)
		}
		n.add(who)
	}
	for id := model.IdentityHost; id <= model.IdentityUnmanaged; id++ {
		if id == model.IdentityWorldIPv4 || id == model.IdentityWorldIPv6 {
			continue
		}
		n.add(party{Party: reference.Party{Reserved: model.ReservedNames()[id]}, id: id,
			addrs: addresses(fmt.Sprint("172.31.0.", id), fmt.Sprint("fd31::", id))})
	}
	// Nobody has told who has these.
	n.parties = append(n.parties, party{Party: reference.Party{Reserved: "unknown"}, id: model.IdentityUnknown,
		addrs: addresses("10.244.9.9", "fd00:10:244::99")})
	for _, a := range policygen.Addresses() {
		n.parties = append(n.parties, party{Party: reference.Party{Addr: a}, id: policygen.IdentityOf(n.Rows, a),
			addrs: map[int]netip.Addr{family(a): a}})
	}
	for _, world := range []model.IdentityID{model.IdentityWorldIPv4, model.IdentityWorldIPv6} {
		a := addresses("172.31.0.1", "fd31::1")[4+2*int(world-model.IdentityWorldIPv4)]
		// No prefix of a policy is known to cover a host's address.
		outside := netip.MustParseAddr("1.1.1.1")
		if a.Is6() {
			outside = netip.MustParseAddr("2001:db8::1")
		}
		n.parties = append(n.parties, party{Party: reference.Party{Addr: outside}, id: world, translated: true,
			addrs: map[int]netip.Addr{family(a): a}})
	}
	return n
}

// add is for those whose addresses have rows of their own.
func (n *node) add(p party) {
	n.parties = append(n.parties, p)
	for _, a := range p.addrs {
		n.extra = append(n.extra, model.IPRow{Prefix: netip.PrefixFrom(a, a.BitLen()), Identity: p.id, Slot: p.slot})
	}
}

func addresses(v4, v6 string) map[int]netip.Addr {
	return map[int]netip.Addr{4: netip.MustParseAddr(v4), 6: netip.MustParseAddr(v6)}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func podMAC(slot uint16) model.MAC  { return model.MAC{2, 0, 0, 0, 0, byte(slot)} }
func hostMAC(slot uint16) model.MAC { return model.MAC{2, 0, 0, 1, 0, byte(slot)} }

// rows is what the kernel is to hold, but for devices.
func (n *node) rows(devices [maxPods]uint32) (map[model.SetHash]model.PolicySet, []model.EndpointRow, []model.IPRow) {
	sets := map[model.SetHash]model.PolicySet{}
	var rows []model.EndpointRow
	for _, p := range n.parties {
		if p.slot == 0 {
			continue
		}
		res := n.out.Results[p.pod]
		if len(res.Set.Entries) > 0 {
			sets[res.Set.Hash] = res.Set
		}
		rows = append(rows, model.EndpointRow{
			Slot: p.slot, ID: 100 + uint32(p.slot), IfIndex: devices[p.slot-1], IfName: fmt.Sprint("wf", p.slot-1),
			Identity: p.id, Set: res.Set.Hash, MTU: 1500, MAC: podMAC(p.slot), HostMAC: hostMAC(p.slot),
			EnforceEgress: res.Isolate[model.Egress], EnforceIngress: res.Isolate[model.Ingress],
			IPv4: p.addrs[4], IPv6: p.addrs[6],
		})
	}
	return sets, rows, append(n.extra[:len(n.extra):len(n.extra)], n.Rows...)
}

// origin is the device that a party's packets come from, 0 for the host's own
// sockets.
func (n *node) origin(k *kernel, p party) uint32 {
	switch {
	case p.slot != 0:
		return k.devices[p.slot-1]
	case p.id == model.IdentityHost:
		return 0
	}
	return k.uplink
}

// question is the first packet of a connection between two parties, at the hook
// of one of them that is here.
type question struct {
	from, to int
	hook     model.Direction
	flow     flow
}

// port is what rules are asked for: of ICMP type and code, and none of protocols
// that have no ports.
func (q question) port() uint16 {
	switch q.flow.proto {
	case model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP, model.ProtoICMP, model.ProtoICMPv6:
		return q.flow.dport
	}
	return 0
}

func choose[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// somebody is a pod half of the time: pods come first in parties.
func (n *node) somebody(r *rand.Rand) int {
	if r.IntN(2) == 0 {
		return r.IntN(len(n.Pods))
	}
	return r.IntN(len(n.parties))
}

// question draws one. serial makes every flow of a world another one.
func (n *node) question(r *rand.Rand, serial uint16) question {
	for {
		q := question{from: n.somebody(r), to: n.somebody(r)}
		from, to, f := n.parties[q.from], n.parties[q.to], choose(r, 4, 6)
		q.flow.src, q.flow.dst = from.addrs[f], to.addrs[f]
		if q.from == q.to || from.slot == 0 && to.slot == 0 || to.translated || !q.flow.src.IsValid() || !q.flow.dst.IsValid() {
			continue
		}
		q.hook = model.Egress
		if from.slot == 0 || to.slot != 0 && r.IntN(2) == 0 {
			q.hook = model.Ingress
		}
		if from.translated && q.hook == model.Egress {
			continue
		}
		n.protocol(r, &q.flow, f, serial)
		return q
	}
}

func (n *node) protocol(r *rand.Rand, f *flow, family int, serial uint16) {
	f.proto = choose(r, model.ProtoTCP, model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP, model.ProtoICMP, 112, 47)
	f.sport = 1024 + serial
	switch f.proto {
	case model.ProtoICMP:
		types := []uint16{8, 8, 13, 15, 17, 42}
		if family == 6 {
			f.proto, types = model.ProtoICMPv6, []uint16{128, 128, 160}
		}
		f.dport = choose(r, types...)<<8 | choose(r, uint16(0), 0, 1, 255)
	case model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP:
		f.dport = choose(r, n.bounds...)
		if r.IntN(8) == 0 {
			f.dport = uint16(r.Uint32())
		}
	}
}

func (n *node) describe(q question) string {
	name := func(p party) string {
		return fmt.Sprintf("[%v%s%v identity %d slot %d]", p.Labels, p.Reserved, p.Addr, p.id, p.slot)
	}
	return fmt.Sprintf("%s -> %s at the %s hook: %+v", name(n.parties[q.from]), name(n.parties[q.to]), q.hook, q.flow)
}

// kind is what a question is about, for the tally.
func (q question) kind(n *node) string {
	side := "other"
	switch from, to := n.parties[q.from], n.parties[q.to]; {
	case from.slot != 0 && to.slot != 0:
		side = "two pods here"
	case q.hook == model.Egress:
		side = "from a pod"
	default:
		side = "to a pod"
	}
	return fmt.Sprintf("%s, %s hook, IPv%d, %s", side, q.hook, family(q.flow.src), protocolName(q.flow.proto))
}

func protocolName(proto uint8) string {
	switch proto {
	case model.ProtoTCP:
		return "TCP"
	case model.ProtoUDP:
		return "UDP"
	case model.ProtoSCTP:
		return "SCTP"
	case model.ProtoICMP, model.ProtoICMPv6:
		return "ICMP"
	}
	return "no ports"
}

// kinds are all that must have been asked about.
func kinds() (out []string) {
	for _, side := range []string{"two pods here, egress", "two pods here, ingress", "from a pod, egress", "to a pod, ingress"} {
		for _, f := range []int{4, 6} {
			for _, p := range []string{"TCP", "UDP", "SCTP", "ICMP", "no ports"} {
				out = append(out, fmt.Sprintf("%s hook, IPv%d, %s", side, f, p))
			}
		}
	}
	return out
}
