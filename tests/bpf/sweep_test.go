// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// A sweep marks what it matches, answered or not, and nothing else, and moves the
// generation by which decisions that overlap it are known.
func TestASweepMarksFlowsAndMovesTheGeneration(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1, 2)))
		n.from(n.c, sent(f, n.c, n.far, protoUDP, udp(1, 2)))
		before := n.generation()
		n.sweep(map[int]string{4: "10.0.0.2/32", 6: "fd00::2/128"}[f])
		if now := n.generation(); now != before+1 {
			t.Errorf("the generation is %d after %d", now, before)
		}
		stale := func(a, b *host, sport, dport uint16, proto uint8) bool {
			ct, _ := n.flow(f, a, b, sport, dport, proto)
			return ct != nil && ct.Flags&uint8(weftbpf.BpfWeftCtFlagWEFT_CT_STALE) != 0
		}
		if !stale(n.a, n.b, 1000, 80, protoTCP) || !stale(n.a, n.b, 1, 2, protoUDP) || stale(n.c, n.far, 1, 2, protoUDP) {
			t.Errorf("IPv%d: marked are other flows than those of the swept address", f)
		}
	}
}

func (n *node) generation() (gen uint32) {
	n.Helper()
	if err := n.objs.WeftGen.Lookup(uint32(0), &gen); err != nil {
		n.Fatal(err)
	}
	return gen
}

// A flow that is decided while a sweep goes on may have been decided with the old
// identity and been entered behind the sweep: it is marked, whatever its address.
func TestASweepDuringADecisionIsNotMissed(t *testing.T) {
	n := newNode(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // sweeps of an address that nobody has, until stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				n.sweep("99.0.0.1/32")
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	deadline := time.Now().Add(30 * time.Second)
	for port := uint16(1); time.Now().Before(deadline); port++ {
		n.from(n.a, sent(4, n.a, n.b, protoUDP, udp(port, 2)))
		if ct, _ := n.flow(4, n.a, n.b, port, 2, protoUDP); ct != nil && ct.Flags&uint8(weftbpf.BpfWeftCtFlagWEFT_CT_STALE) != 0 {
			return
		}
	}
	t.Error("no flow that was decided during a sweep was marked")
}
