// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bufio"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// metric reads one sample of the agent's metrics, named as it is written there.
func metric(t *testing.T, name string) (float64, error) {
	t.Helper()
	r, err := http.Get("http://127.0.0.1:9465/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if value, is := strings.CutPrefix(lines.Text(), name+" "); is {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no sample %s", name)
}

// ring is how many unanswered flows an endpoint may have.
const ring = 512

// A pod that opens flows nobody answers pushes out its own, and nobody else's.
func TestFloodHurtsTheFlooderOnly(t *testing.T) {
	w := startWatch(t)
	serve(t, w.victim, 8080)
	other := w.pod("other")
	const count = 8 * ring
	evictions := "weft_datapath_conntrack_evictions_total"
	before, err := metric(t, evictions)
	ok(t, err)
	onBoth(t, func(t *testing.T, family int) {
		addr := hostPort(addrs(w.victim)[family], 8080)
		open, err := other.NS.Dial("tcp", addr, soon)
		ok(t, err)
		defer open.Close()
		mine, err := w.attacker.NS.Dial("tcp", addr, soon)
		ok(t, err)
		defer mine.Close()
		stream, err := sandbox.StartStream(sandbox.StreamConfig{NS: other.NS, Addr: addr, Every: time.Millisecond})
		ok(t, err)
		loop := sandbox.StartLoop(sandbox.LoopConfig{NS: other.NS, Network: "tcp", Addr: addr, Every: 5 * time.Millisecond, Timeout: soon, Fresh: true})
		src, dst := addrs(w.attacker)[family], worldAddrs()[family].Next().Next() // nobody there
		for i := range count {
			from, to := netip.AddrPortFrom(src, uint16(10000+i)), netip.AddrPortFrom(dst, 80)
			d := datagram{src: src, dst: dst, proto: protoTCP, body: tcpTo(from, to, tcpSYN, 1, 0, "")}
			if i%2 == 1 {
				d.proto, d.body = protoUDP, udpTo(from, to, "flood")
			}
			w.send(d)
		}
		for name, conn := range map[string]func() (string, error){
			"another's open flow":   func() (string, error) { return sandbox.AskOn(open, "hello", answer) },
			"the flooder's own":     func() (string, error) { return sandbox.AskOn(mine, "hello", answer) },
			"another's new flow":    func() (string, error) { return sandbox.Ask(other.NS, "tcp", addr, "hello", answer) },
			"the flooder's new one": func() (string, error) { return sandbox.Ask(w.attacker.NS, "tcp", addr, "hello", answer) },
		} {
			if _, err := conn(); err != nil {
				t.Errorf("after the flood, %s: %v", name, err)
			}
		}
		rep := loop.Stop()
		if len(rep.Failed) > 0 || rep.Done == 0 {
			t.Errorf("new flows of another during the flood: %d answered, failed %v", rep.Done, rep.Failed)
		}
		if p := stream.Stop(); p.Err != nil {
			t.Errorf("another's transfer: %v", p.Err)
		}
	})
	ok(t, sandbox.Eventually(w.ctx, soon, "evictions", func() error {
		now, err := metric(t, evictions)
		if err == nil && now-before < 2*count-3*ring {
			err = fmt.Errorf("%v are counted of %d flows", now-before, 2*count)
		}
		return err
	}))
	ok(t, sandbox.Eventually(w.ctx, 2*soon, "a bounded table", func() error {
		now, err := metric(t, `weft_datapath_conntrack_entries{state="unanswered"}`)
		if err == nil && (now > 4*ring || now < ring/2) {
			err = fmt.Errorf("%v unanswered flows", now)
		}
		return err
	}))
}

// The same from beyond the host: its flows count against the pod that they are for.
func TestFloodFromTheWorldIsBounded(t *testing.T) {
	w := startWatch(t)
	other := w.pod("other")
	serve(t, other, 8080)
	conn, err := w.world.Dial("tcp", hostPort(other.IPv6, 8080), soon)
	ok(t, err)
	defer conn.Close()
	before, err := metric(t, "weft_datapath_conntrack_evictions_total")
	ok(t, err)
	deaf, err := w.victim.NS.ListenPacket("udp", ":9") // so that no error comes back
	ok(t, err)
	defer deaf.Close()
	out, mac := w.taps["world"], uplinkMAC(t)
	const count = 4 * ring
	for i := range count {
		src, dst := worldAddrs()[i%2], addrs(w.victim)[i%2]
		d := datagram{src: src, dst: dst, proto: protoUDP, body: udpTo(netip.AddrPortFrom(src, uint16(10000+i)), netip.AddrPortFrom(dst, 9), "flood")}
		ok(t, out.Send(ether(mac, out.MAC, d.etherType(), d.bytes())))
	}
	if _, err := sandbox.AskOn(conn, "hello", answer); err != nil {
		t.Errorf("the world's flow to another pod: %v", err)
	}
	reaches(t, w.world, "tcp", other.IPv4, 8080)
	ok(t, sandbox.Eventually(w.ctx, soon, "evictions", func() error {
		now, err := metric(t, "weft_datapath_conntrack_evictions_total")
		if err == nil && now-before < count-2*ring {
			err = fmt.Errorf("%v are counted of %d flows", now-before, count)
		}
		return err
	}))
}
