// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	callsASecond = 5000
	callers      = 16
)

// ending is what is asked by a call, what comes, and how the connection ends.
type ending struct {
	path, status string
	reset        bool // by the client, once it is answered; else it waits until the proxy has closed
	same         bool // the proxy has the client's ports, and the server ends each connection of the proxy's
}

// rawCall calls an address on its own thread, and asks the proxy to close.
func (e ending) rawCall(family int, to unix.Sockaddr, buf []byte) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(int64(soon))
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)); err != nil {
		return err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); { // where there is a time-out, signals end the wait
		err = unix.Connect(fd, to)
	}
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	if _, err := fmt.Fprintf(writer(fd), "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", e.path); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	got := ""
	for {
		n, err := unix.Read(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("reading: %w", err)
		}
		if n == 0 {
			break
		}
		got += string(buf[:max(n, 0)])
		if e.reset {
			err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			if err != nil {
				return err
			}
			break
		}
	}
	if !strings.HasPrefix(got, "HTTP/1.1 "+e.status) {
		return fmt.Errorf("the answer is %q", got)
	}
	return nil
}

// writer writes to a socket.
type writer int

func (w writer) Write(p []byte) (int, error) { return unix.Write(int(w), p) }

// counted by the TCP of this thread's network namespace.
func countedByTCP(name string) (int, error) {
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		values := strings.Fields(lines[i+1])
		for j, n := range strings.Fields(lines[i]) {
			if n == name {
				count := 0
				_, err := fmt.Sscan(values[j], &count)
				return count, err
			}
		}
	}
	return 0, fmt.Errorf("no counter %s", name)
}

// TestNoSYNIsLostAtManyCallsASecond: thousands of connections end as soon as they are
// answered, and a port comes round five times a second.
func TestNoSYNIsLostAtManyCallsASecond(t *testing.T) {
	for name, e := range map[string]ending{
		"the proxy closes first":                         {"/b", "403", false, false},
		"the client resets":                              {"/b", "403", true, false},
		"the proxy closes first, with an upstream":       {"/a", "200", false, false},
		"the client resets, with an upstream":            {"/a", "200", true, false},
		"the proxy closes first, and has the same ports": {"/a", "200", false, true},
		"the client resets, and the proxy has its ports": {"/a", "200", true, true},
	} {
		t.Run(name, e.flood)
	}
}

func (e ending) flood(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	if e.same {
		serveOnce(t, server.ns, 80)
	} else {
		serve(t, server.ns, 80)
	}
	server.policy(rule(model.Ingress, alice, 1))
	n.envoy(map[model.RulesetID]string{1: "/a"})
	to := [2]unix.Sockaddr{&unix.SockaddrInet4{Port: 80, Addr: server.addrs[0].As4()}, &unix.SockaddrInet6{Port: 80, Addr: server.addrs[1].As16()}}
	families := [2]int{unix.AF_INET, unix.AF_INET6}
	total := callsASecond * level.Scale(30)
	errs := make([]error, callers)
	ports := map[*sandbox.NS]uint16{a.ns: 50999} // from 50000
	if e.same {
		ports[n.ns] = 53999 // who waits there for its time to end has ports, too
		total /= 3
	}
	before := sentAgain(t, ports)
	for ns, last := range ports {
		ok(t, ns.TakePorts(50000, last))
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			errs[c] = a.ns.Do(func() error {
				buf := make([]byte, 4096)
				for i := c; i < total; i += callers {
					time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / callsASecond))) // the pace
					if err := e.rawCall(families[i/callers%2], to[i/callers%2], buf); err != nil {
						return fmt.Errorf("call %d: %w", i, err)
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	ok(t, errors.Join(errs...))
	took := time.Since(begin)
	if lost := sentAgain(t, ports) - before; lost != 0 {
		t.Errorf("of %d calls, %d SYNs were sent again", total, lost)
	}
	if got := n.drops(); len(got) != 0 {
		t.Errorf("dropped were %v", got)
	}
	t.Logf("%d calls, %.0f a second", total, float64(total)/took.Seconds())
}

// sentAgain is how many SYNs were sent again so far in namespaces.
func sentAgain(t *testing.T, all map[*sandbox.NS]uint16) (count int) {
	t.Helper()
	for ns := range all {
		within(t, ns, func() error {
			more, err := countedByTCP("TCPSynRetrans")
			count += more
			return err
		})
	}
	return count
}

// serveOnce answers one request by each connection.
func serveOnce(t *testing.T, ns *sandbox.NS, port uint16) {
	t.Helper()
	for network, addr := range map[string]string{"tcp4": "0.0.0.0", "tcp6": "[::]"} {
		ln, err := ns.Listen(network, fmt.Sprintf("%s:%d", addr, port))
		ok(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })}
		go srv.Serve(ln) //nolint:errcheck // it ends with the test
		t.Cleanup(func() { _ = srv.Close() })
	}
}
