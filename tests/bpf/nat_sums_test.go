// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// sumComplete has the kernel sum up a packet as some devices do, and look after
// the run whether that sum followed (BPF_F_TEST_SKB_CHECKSUM_COMPLETE, 6.16).
const sumComplete = 1 << 2

// summedUp runs a program on a packet that a device has summed up.
func (n *node) summedUp(what string, prog *ebpf.Program, in uint32, frame []byte) {
	n.Helper()
	out := make([]byte, len(frame)+64)
	v, err := prog.Run(&ebpf.RunOptions{Data: frame, DataOut: out, Repeat: 1, Flags: sumComplete,
		Context: skb{Ifindex: n.uplink, IngressIfindex: in}})
	if errors.Is(err, unix.EBADMSG) {
		n.Errorf("%s: the device's sum did not follow", what)
	} else if err != nil || v != asIs {
		n.Errorf("%s: verdict %d, %v", what, v, err)
	}
	if string(out[:len(frame)]) == string(frame) {
		n.Errorf("%s: the packet was not translated", what)
	}
}

func TestSumsMadeByADevice(t *testing.T) {
	n := newUplink(t, nil)
	probe := n.wire(4, between(4, n.far.at(4, 1), n.self.at(4, 2), protoUDP, udp(1, 2)))
	_, err := n.objs.WeftFromNet.Run(&ebpf.RunOptions{Data: probe, Repeat: 1, Flags: sumComplete})
	if errors.Is(err, unix.EINVAL) {
		t.Skip("kernel: BPF_F_TEST_SKB_CHECKSUM_COMPLETE (6.16)")
	}
	for _, f := range families {
		for _, proto := range append(protocols(f), protoSCTP) {
			body := func(sport, dport uint16, answer bool) []byte {
				if proto == protoSCTP {
					return sctp(sport, dport)
				}
				return message(f, proto, sport, dport, answer)
			}
			var at end
			for _, pod := range []*host{n.b, n.a} { // the second gets another port
				frame := n.wire(f, between(f, pod.at(f, 4000), n.far.at(f, 80), proto, body(4000, 80, false)))
				if proto == protoSCTP && pod == n.a {
					continue // which SCTP cannot
				}
				_, out := n.leaves(pod.ifindex, frame)
				at, _, _ = n.seen(f, out)
				n.summedUp("out", n.objs.WeftToNet, pod.ifindex, frame)
			}
			answer := between(f, n.far.at(f, 80), at, proto, body(80, at.Port(), true))
			n.summedUp("in", n.objs.WeftFromNet, n.uplink, n.wire(f, answer))
			quoted := between(f, at, n.far.at(f, 80), proto, body(at.Port(), 80, false))
			if proto == protoICMP || proto == protoICMPv6 {
				quoted = between(f, at, n.far.at(f, at.Port()), proto, body(at.Port(), 80, false))
			}
			n.summedUp("an error", n.objs.WeftFromNet, n.uplink,
				n.wire(f, about(f, n.far.at(f, 0), n.self.at(f, 0), errorsOf(f)["too big"], quoted)))
		}
		l4 := summed(f, n.far.ip[f], n.self.ip[f], protoUDP, udp(80, 4000, make([]byte, 64)...))
		for _, from := range []int{0, 24} {
			n.summedUp("a piece", n.objs.WeftFromNet, n.uplink, n.wire(f, piece(f, n.far, n.self, protoUDP, 9, l4, from, from+24)))
		}
	}
}
