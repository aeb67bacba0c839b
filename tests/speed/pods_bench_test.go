// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/tests/rounds"
)

const (
	trafficRounds = 15
	trafficTime   = 250 * time.Millisecond
)

// isolation lets the client alone speak to the server, so that policy is asked.
const isolation = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: server}}
  ingress:
  - fromEndpoints:
    - matchLabels: {name: client}
`

// weftPair is two pods of the node, the server isolated.
func (n *node) weftPair() *pair {
	n.Helper()
	n.write("pods.yaml", podManifest("client")+podManifest("server"))
	n.write("policy.yaml", isolation)
	pods := n.attach("client", "server")
	return &pair{client: pods[0].NS, server: pods[1].NS, server4: pods[1].IPv4, server6: pods[1].IPv6, group: n.group}
}

// shortcut attaches programs that do nothing but hand every packet over to the
// other pod: less than that nobody can do.
func (p *plainHost) shortcut(tb testing.TB) {
	tb.Helper()
	for i := range byte(2) {
		ok(tb, p.host.Do(func() error {
			from, to := ifindex(tb, plainSpec(1+i).HostIfName), ifindex(tb, plainSpec(2-i).HostIfName)
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: asm.Instructions{
				asm.Mov.Imm(asm.R1, int32(to)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirectPeer.Call(), asm.Return()}})
			if err != nil {
				return err
			}
			defer prog.Close()
			l, err := link.AttachTCX(link.TCXOptions{Interface: int(from), Program: prog, Attach: ebpf.AttachTCXIngress})
			if err == nil {
				tb.Cleanup(func() { _ = l.Close() })
			}
			return err
		}))
	}
}

// BenchmarkPodToPod is requests, new connections and a stream between two pods of
// one host, by Weft, by the kernel's own routing and by the shortcut, in turn.
func BenchmarkPodToPod(b *testing.B) {
	weft, plain, short := startNode(b).weftPair(), newPlainHost(b, "plain"), newPlainHost(b, "shortcut")
	short.shortcut(b)
	for _, p := range []*pair{weft, &plain.pair, &short.pair} {
		p.serve(b)
	}
	for _, kind := range conversations() {
		side := func(label string, p *pair) rounds.Side {
			return rounds.Side{Name: label, Measure: func(tb testing.TB) float64 { return kind.measure(tb, p) }}
		}
		b.Run(kind.name, func(b *testing.B) {
			medians := rounds.Medians(b, trafficRounds, []rounds.Side{side("weft", weft), side("kernel_routing", &plain.pair), side("shortcut", &short.pair)})
			for _, label := range []string{"weft", "kernel_routing", "shortcut"} {
				rounds.Report(b, label, medians[label]*kind.scale, kind.unit)
			}
		})
	}
}
