// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/rounds"
)

const (
	exportRounds = 41
	exportFlows  = 60_000 // more than the buffer holds
)

// exporter is a host of two pods with Weft's programs on their devices, with or
// without flow events.
type exporter struct {
	*plainHost
	dp   *datapath.Datapath
	root string
}

func newExporter(tb testing.TB, label string, events bool) *exporter {
	tb.Helper()
	e := &exporter{plainHost: newPlainHost(tb, label), root: "/sys/fs/bpf/" + label}
	e.dp = openDatapathAt(tb, e.root, events)
	for i := range byte(2) {
		spec := plainSpec(i + 1)
		ok(tb, e.host.Do(func() error { return e.attach(tb, uint16(i+1), spec.HostIfName) }))
	}
	ok(tb, e.host.Do(func() error { // to the links, where devices soon are
		for left := 1; left > 0; {
			var err error
			if left, err = e.dp.FinishAttach(); err != nil {
				return err
			}
		}
		return nil
	}))
	return e
}

// attach gives a pod its row, its addresses and its programs.
func (e *exporter) attach(tb testing.TB, slot uint16, dev string) error {
	tb.Helper()
	spec, index := plainSpec(byte(slot)), ifindex(tb, dev)
	ok(tb, e.dp.ApplyEndpoint(model.EndpointRow{Slot: slot, ID: uint32(slot), IfIndex: index, IfName: dev, Identity: 1000 + model.IdentityID(slot),
		MTU: 1500, MAC: spec.MAC, HostMAC: spec.HostMAC, IPv4: spec.IPv4, IPv6: spec.IPv6}))
	var ips []model.IPRow
	for _, a := range []netip.Addr{spec.IPv4, spec.IPv6} {
		ips = append(ips, model.IPRow{Prefix: netip.PrefixFrom(a, a.BitLen()), Identity: 1000 + model.IdentityID(slot), Slot: slot})
	}
	ok(tb, e.dp.ApplyIPs(ips, nil))
	return e.dp.Attach(context.Background(), index, dev)
}

func (e *exporter) pipeline(source flow.Source) *flow.Pipeline {
	return flow.NewPipeline(flow.Config{Source: source, Names: func() flow.Names { return &flow.Maps{} },
		Store: flow.NewStore(4096), Clock: flow.SystemClock, Log: slog.New(slog.DiscardHandler)})
}

// BenchmarkFlowExport is connections at full rate with and without the export of
// their flows, which takes its share of the same machine.
func BenchmarkFlowExport(b *testing.B) {
	on, off := newExporter(b, "export-on", true), newExporter(b, "export-off", false)
	events, err := on.dp.Flows()
	ok(b, err)
	pipeline := on.pipeline(events)
	ended := make(chan error, 1)
	go func() { ended <- pipeline.Run(context.Background()) }() // ends when its source is closed
	b.Cleanup(func() {
		ok(b, events.Close())
		ok(b, <-ended)
	})
	var sides []rounds.Side
	for _, e := range []*exporter{on, off} {
		e.serve(b)
		sides = append(sides, rounds.Side{Name: e.host.Name, Measure: func(tb testing.TB) float64 {
			return measure(tb, e.client, "", order{Kind: kindRate, At: at(e.server4, echoPort), CPU: 1, For: trafficTime})
		}})
	}
	medians := rounds.Medians(b, exportRounds, sides)
	for _, s := range sides {
		rounds.Report(b, s.Name, medians[s.Name], "connections/s")
	}
	if pipeline.Counters().Seen[model.FlowNew] == 0 {
		b.Error("no event came")
	}
}

// emptying ends when there is nothing more to read, and counts.
type emptying struct {
	flow.Source
	read int
}

func (s *emptying) ReadFlow(time.Time) ([]byte, error) {
	raw, err := s.Source.ReadFlow(time.Now())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, os.ErrClosed
	}
	s.read++
	return raw, err
}

// BenchmarkFlowDrain is how many events a second one reader decodes, names and
// stores; and whether of more than the buffer holds each is drained or counted.
func BenchmarkFlowDrain(b *testing.B) {
	e := newExporter(b, "drain", true)
	events, err := e.dp.Flows()
	ok(b, err)
	b.Cleanup(func() { ok(b, events.Close()) })
	index, prog := uint32(0), (*ebpf.Program)(nil)
	ok(b, e.host.Do(func() error {
		index = ifindex(b, plainSpec(1).HostIfName)
		found, err := link.QueryPrograms(link.QueryOptions{Target: int(index), Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		prog, err = ebpf.NewProgramFromID(found.Programs[0].ID)
		return err
	}))
	defer prog.Close()
	var rates []float64
	uncounted := 0.0
	for round := range 5 {
		lostBefore, err := events.LostFlows()
		ok(b, err)
		evictedBefore := e.evicted(b)
		ok(b, e.host.Do(func() error { return open(prog, index, round) }))
		lost, err := events.LostFlows()
		ok(b, err)
		source := &emptying{Source: events}
		pipeline := e.pipeline(source)
		start := time.Now()
		ok(b, pipeline.Run(context.Background()))
		rates = append(rates, float64(source.read)/time.Since(start).Seconds())
		produced := exportFlows + int(e.evicted(b)-evictedBefore)
		uncounted += float64(produced - source.read - int(lost-lostBefore))
		if lost == lostBefore {
			b.Fatal("the buffer was never full")
		}
	}
	rounds.Report(b, "rate", rounds.Quantile(rates, 0.5), "events/s")
	rounds.Report(b, "lost_uncounted", uncounted, "events")
}

// open runs the program on the first packets of that many flows.
func open(prog *ebpf.Program, index uint32, round int) error {
	from, to := plainSpec(1), plainSpec(2)
	frame := make([]byte, 54)
	copy(frame, from.HostMAC[:])
	copy(frame[6:], from.MAC[:])
	copy(frame[12:], []byte{8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP})
	copy(frame[26:], from.IPv4.AsSlice())
	copy(frame[30:], to.IPv4.AsSlice())
	frame[46], frame[47] = 0x50, 2 // a header of 20 bytes, SYN
	binary.BigEndian.PutUint16(frame[36:], uint16(80+round))
	ctx := struct {
		before  [10]uint32
		ifindex uint32
	}{ifindex: index}
	for i := range exportFlows {
		binary.BigEndian.PutUint16(frame[34:], uint16(1+i))
		if _, err := prog.Run(&ebpf.RunOptions{Data: frame, Context: ctx, Repeat: 1}); err != nil {
			return err
		}
	}
	return nil
}

// evicted is how many flows had to go, ever; the end of each is an event.
func (e *exporter) evicted(tb testing.TB) uint64 {
	tb.Helper()
	all, err := e.dp.EvictedUnanswered()
	ok(tb, err)
	return all[1]
}

func ifindex(tb testing.TB, dev string) uint32 {
	tb.Helper()
	l, err := netlink.LinkByName(dev)
	ok(tb, err)
	return uint32(l.Attrs().Index)
}
