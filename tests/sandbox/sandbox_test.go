// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

func TestSandboxIsAPlaceOfItsOwn(t *testing.T) {
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
		t.Errorf("links = %v, want lo alone and up", links)
	}
	if pid := os.Getppid(); pid != 1 {
		t.Errorf("parent is %d, want PID 1 of the sandbox", pid)
	}
	for _, dir := range []string{"/run/netns", "/var/lib/weft"} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Errorf("%s: entries %v, error %v, want an empty folder", dir, entries, err)
		}
	}
}

func TestNamespacesHaveTheirOwnSockets(t *testing.T) {
	a, err := sandbox.NewNS("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, addr := range []string{"127.0.0.1:80", "[::1]:80"} {
		ln, err := a.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, err := a.Dial("tcp", addr, time.Second)
		if err != nil {
			t.Fatalf("inside: %v", err)
		}
		conn.Close()
		if conn, err := sandbox.Host().Dial("tcp", addr, time.Second); err == nil {
			conn.Close()
			t.Errorf("%s of the namespace answers in the host's", addr)
		}
	}
}

func TestTrafficCountsWhatFails(t *testing.T) {
	ns, err := sandbox.NewNS("traffic")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	srv, err := sandbox.StartEcho(ns, "pod-a", 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"127.0.0.1", "::1"} {
		for _, network := range []string{"tcp", "udp"} {
			addr := net.JoinHostPort(ip, "7")
			answer, err := sandbox.Ask(ns, network, addr, "hello", time.Second)
			if err != nil || answer != "pod-a hello" {
				t.Errorf("%s %s: answer %q, error %v", network, addr, answer, err)
			}
		}
		if err := sandbox.Ping(ns, ip, time.Second); err != nil {
			t.Errorf("ping %s: %v", ip, err)
		}
	}
	loop := sandbox.StartLoop(sandbox.LoopConfig{NS: ns, Network: "tcp", Addr: "127.0.0.1:7",
		Every: time.Millisecond, Timeout: 100 * time.Millisecond, Fresh: true})
	stream, err := sandbox.StartStream(ns, "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	err = sandbox.Eventually(t.Context(), 5*time.Second, "progress", func() error {
		if loop.Report().Done < 20 || stream.Echoed() < 1<<20 {
			return net.ErrClosed
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if failed := loop.Report().Failed; len(failed) != 0 {
		t.Errorf("failed while the server was up: %v", failed)
	}
	srv.Close()
	err = sandbox.Eventually(t.Context(), 5*time.Second, "failures", func() error {
		if len(loop.Report().Failed) == 0 || stream.Err() == nil {
			return net.ErrClosed
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	loop.Stop()
	stream.Stop()
}
