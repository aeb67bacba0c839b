// SPDX-License-Identifier: Apache-2.0

//go:build l7

package speed

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/rounds"
	"github.com/weftmesh/weft/tests/sandbox"
)

// Client and server have one CPU. How many requests there can be, Envoy decides, which has
// the other one; how long one takes, all on one CPU, as to wake a partner on another one
// takes longer than a request, and varies.
const (
	envoyThreads = 2 // of either Envoy
	proxyCPU     = 0
	peersCPU     = 1
)

// webSide is one way from a client to a server.
type webSide struct {
	name   string
	client *sandbox.NS
	group  string
	to     netip.Addr
	port   uint16 // beside the protocol's
	envoy  int    // 0: none
	works  []int  // processes whose CPU time is counted, beside the client's
}

// webLoad is how much is asked; no rate: as much as there can be.
type webLoad struct {
	name  string
	rate  int
	count int // of rounds
	time  time.Duration
}

func webLoads() []webLoad {
	return []webLoad{
		{"100_per_s", 100, 3, 2 * time.Second},
		{"500_per_s", 500, 5, time.Second},
		{"1000_per_s", 1000, 9, time.Second},
		{"saturation", 0, 7, 800 * time.Millisecond},
	}
}

// BenchmarkL7 is requests of 1 KB with answers of 1 KB through Weft, through the same
// Envoy as a plain reverse proxy, with and without records of requests, and from pod
// to pod, in turn.
func BenchmarkL7(b *testing.B) {
	sides := webSides(b)
	for _, protocol := range []string{"http1", "grpc"} {
		for _, fresh := range []bool{false, true} {
			for _, l := range webLoads() {
				name := fmt.Sprintf("%s_%s/%s", protocol, map[bool]string{false: "kept", true: "new"}[fresh], l.name)
				b.Run(name, func(b *testing.B) { measureWeb(b, sides, protocol, fresh, l) })
			}
		}
	}
}

// webSides are all ways, each ready.
func webSides(b *testing.B) []webSide {
	n := startNode(b, envoySetting(b))
	weft := n.weftPair()
	n.write("policy.yaml", webPolicy)
	plain := newPlainHost(b, "plain")
	bareAt := plain.bareAddr(b)
	bare := plain.bareEnvoy(b, "/run/weft/als.sock")
	var servers []int
	for _, p := range []*pair{weft, &plain.pair} {
		servers = append(servers, serveAt(b, p.server, order{Kind: kindServe, At: at(netip.IPv4Unspecified(), 0), CPU: peersCPU}))
	}
	n.proxyReady(len(webPorts()))
	own := envoyPID(b)
	agent := n.agent.PID()
	return []webSide{
		{"weft", weft.client, weft.group, weft.server4, 0, own, []int{own, servers[0], agent}},
		{"bare_envoy", plain.client, weft.group, bareAt, toLogged, bare, []int{bare, servers[1], agent}},
		{"bare_envoy_without_records", plain.client, weft.group, bareAt, toUnlogged, bare, []int{bare, servers[1], agent}},
		{"direct", weft.client, weft.group, weft.server4, toDirect, 0, []int{servers[0], agent}},
	}
}

// measureWeb reports medians over rounds of what each side gives.
func measureWeb(b *testing.B, sides []webSide, protocol string, fresh bool, l webLoad) {
	got := map[string]map[string][]float64{}
	failed := 0.0
	cpu := peersCPU
	if l.rate == 0 {
		cpu = proxyCPU
	}
	for _, s := range sides {
		if s.envoy != 0 {
			bind(b, s.envoy, cpu)
		}
	}
	for round := range l.count {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			out := s.measure(b, protocol, fresh, l)
			if s.name == "weft" {
				failed += out["failed"]
			}
			delete(out, "failed")
			for figure, value := range out {
				if got[figure] == nil {
					got[figure] = map[string][]float64{}
				}
				got[figure][s.name] = append(got[figure][s.name], value)
			}
		}
	}
	units := map[string]string{"rate": "requests/s", "cpu": "us/request", "p50": "us", "p99": "us"}
	for _, figure := range []string{"rate", "cpu", "p50", "p99"} {
		if got[figure] == nil {
			continue
		}
		for _, s := range sides {
			rounds.Report(b, figure+"/"+s.name, rounds.Quantile(got[figure][s.name], 0.5), units[figure])
		}
	}
	rounds.Report(b, "failed/weft", failed, "requests")
	if l.rate == 1000 {
		rounds.Report(b, "p99_added", rounds.Quantile(got["p99"]["weft"], 0.5)-rounds.Quantile(got["p99"]["direct"], 0.5), "us")
	}
}

// measure is one round of a side's.
func (s webSide) measure(tb testing.TB, protocol string, fresh bool, l webLoad) map[string]float64 {
	tb.Helper()
	conns := 16
	switch {
	case fresh && l.rate > 0:
		conns = 256
	case protocol == "grpc" && !fresh:
		conns = 2
	}
	before := cpuOf(tb, s.works)
	var out webOutcome
	runClient(tb, s.client, s.group, order{Kind: kindWeb, At: at(s.to, webPorts()[protocol]+s.port), CPU: peersCPU, For: l.time,
		Web: webOrder{Protocol: protocol, Rate: l.rate, Conns: conns, Fresh: fresh}}, &out)
	used := cpuOf(tb, s.works) - before + out.CPU
	if l.rate == 0 {
		return map[string]float64{"rate": out.PerSecond, "cpu": used / float64(out.All) * 1e6, "failed": float64(out.Failed)}
	}
	if want := float64(l.rate) * 0.9; out.PerSecond < want {
		tb.Logf("%s: %.0f of %d requests a second were answered", s.name, out.PerSecond, l.rate)
	}
	return map[string]float64{"p50": out.P50, "p99": out.P99, "cpu": used / float64(out.All) * 1e6, "failed": float64(out.Failed)}
}

// cpuOf is what processes have used so far, in seconds.
func cpuOf(tb testing.TB, pids []int) (total float64) {
	tb.Helper()
	for _, pid := range pids {
		for _, task := range tasks(tb, pid) {
			text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "task", task, "schedstat"))
			if err != nil {
				continue // a thread that has just ended
			}
			var ns float64
			_, err = fmt.Sscan(string(text), &ns)
			ok(tb, err)
			total += ns * 1e-9
		}
	}
	return total
}

func tasks(tb testing.TB, pid int) []string {
	tb.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	ok(tb, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// bind keeps all threads of a process on one CPU.
func bind(tb testing.TB, pid, cpu int) {
	tb.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	for _, task := range tasks(tb, pid) {
		var tid int
		_, err := fmt.Sscan(task, &tid)
		ok(tb, err)
		ok(tb, unix.SchedSetaffinity(tid, &set))
	}
}
