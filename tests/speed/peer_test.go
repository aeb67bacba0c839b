// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/rounds"
	"github.com/weftmesh/weft/tests/sandbox"
)

// peerEnv makes this program one end of a conversation instead of a test.
const peerEnv = "WEFT_SPEED_PEER"

func TestMain(m *testing.M) {
	if order := os.Getenv(peerEnv); order != "" {
		if err := runPeer(order); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
		return
	}
	sandbox.Main(m)
}

// Kinds of conversations.
const (
	kindEcho    = "echo"    // server: answers each byte
	kindSink    = "sink"    // server: takes all
	kindRequest = "request" // client: a byte and its answer on a kept connection
	kindConnect = "connect" // client: a new connection, a byte and its answer
	kindRate    = "rate"    // client: as many of these as there can be
	kindStream  = "stream"  // client: as many bytes as the server takes
	kindServe   = "serve"   // server: answers requests of the web
	kindWeb     = "web"     // client: requests of the web
)

// order is what a peer is to do. A process of its own, of one thread that is bound
// to a CPU, keeps the scheduler of Go out of the figures.
type order struct {
	Kind string
	At   netip.AddrPort
	CPU  int
	For  time.Duration // measured; a tenth more before that is not
	Web  webOrder      // of kindWeb
}

// outcome is what a client has seen: nanoseconds at the median, or bytes or
// connections a second.
type outcome struct {
	Figure float64
	Count  int
}

// fresh tells whether each request has a connection of its own.
func (o order) fresh() bool { return o.Kind != kindRequest }

func runPeer(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(o.CPU % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("binding to CPU %d: %w", o.CPU, err)
	}
	switch o.Kind {
	case kindEcho, kindSink:
		return servePeer(o)
	case kindServe:
		return serveWeb(o)
	case kindWeb:
		return askWeb(o)
	}
	var out outcome
	var err error
	if o.Kind == kindStream {
		out, err = stream(o)
	} else {
		out, err = converse(o)
	}
	if err != nil {
		return fmt.Errorf("%s to %s: %w", o.Kind, o.At, err)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func sockaddr(at netip.AddrPort) (family int, sa unix.Sockaddr) {
	if at.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

func servePeer(o order) error {
	family, sa := sockaddr(o.At)
	ln, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(ln, sa), unix.Listen(ln, 1024)); err != nil {
		return fmt.Errorf("listening at %s: %w", o.At, err)
	}
	fmt.Println("ready")
	buf := make([]byte, 1<<18)
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return err
		}
		answer(fd, buf, o.Kind == kindEcho)
		_ = unix.Close(fd)
	}
}

// answer ends with the connection, however that ends.
func answer(fd int, buf []byte, echo bool) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if echo {
			if _, err := unix.Write(fd, buf[:n]); err != nil {
				return
			}
		}
	}
}

// dial connects. The connection ends with a reset: ports are used again at once.
func dial(at netip.AddrPort) (int, error) {
	family, sa := sockaddr(at)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.Connect(fd, sa), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func ask(fd int, buf []byte) error {
	if _, err := unix.Write(fd, buf[:1]); err != nil {
		return err
	}
	n, err := unix.Read(fd, buf[:1])
	if err == nil && n != 1 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// converse measures requests, each on a new connection if the order says so.
func converse(o order) (outcome, error) {
	buf := make([]byte, 1)
	kept, err := dial(o.At)
	if err != nil {
		return outcome{}, err
	}
	if o.fresh() {
		_ = unix.Close(kept) // the server speaks with one at a time
	}
	var took []float64
	for start := time.Now(); time.Since(start) < o.For+o.For/10; {
		begin := time.Now()
		fd := kept
		if o.fresh() {
			if fd, err = dial(o.At); err != nil {
				return outcome{}, err
			}
		}
		if err := ask(fd, buf); err != nil {
			return outcome{}, err
		}
		if end := time.Now(); end.Sub(start) > o.For/10 {
			took = append(took, float64(end.Sub(begin).Nanoseconds()))
		}
		if o.fresh() {
			_ = unix.Close(fd)
		}
	}
	if o.Kind == kindRate {
		return outcome{Figure: float64(len(took)) / o.For.Seconds(), Count: len(took)}, nil
	}
	return outcome{Figure: rounds.Quantile(took, 0.5), Count: len(took)}, nil
}

func stream(o order) (outcome, error) {
	fd, err := dial(o.At)
	if err != nil {
		return outcome{}, err
	}
	// The default may need a queue that paces, which is not everywhere.
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"); err != nil {
		return outcome{}, fmt.Errorf("choosing cubic: %w", err)
	}
	buf := make([]byte, 1<<17)
	bytes, start := 0, time.Now()
	for time.Since(start) < o.For+o.For/10 {
		n, err := unix.Write(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return outcome{}, err
		}
		if time.Since(start) > o.For/10 {
			bytes += max(n, 0)
		}
	}
	return outcome{Figure: float64(bytes) / o.For.Seconds(), Count: bytes}, nil
}

// start runs a peer in a namespace; group is its cgroup, empty: ours.
func start(tb testing.TB, ns *sandbox.NS, group string, o order) (*exec.Cmd, io.Reader) {
	tb.Helper()
	text, err := json.Marshal(o)
	ok(tb, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), peerEnv+"="+string(text), "GOGC=off", "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	if group != "" {
		dir, err := os.Open(group)
		ok(tb, err)
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	out, err := cmd.StdoutPipe()
	ok(tb, err)
	ok(tb, ns.Do(cmd.Start))
	return cmd, out
}

// serveAt runs a server until the benchmark ends, and gives its process.
func serveAt(tb testing.TB, ns *sandbox.NS, o order) (pid int) {
	tb.Helper()
	cmd, out := start(tb, ns, "", o)
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		tb.Fatalf("the server at %s in %s said %q, error %v", o.At, ns.Name, line, err)
	}
	return cmd.Process.Pid
}

// runClient runs a client to its end, and gives what it has seen.
func runClient(tb testing.TB, ns *sandbox.NS, group string, o order, seen any) {
	tb.Helper()
	cmd, out := start(tb, ns, group, o)
	text, err := io.ReadAll(out)
	ok(tb, err)
	ok(tb, cmd.Wait())
	ok(tb, json.Unmarshal(text, seen))
}

// measure is the figure of a client that has run to its end.
func measure(tb testing.TB, ns *sandbox.NS, group string, o order) float64 {
	tb.Helper()
	var got outcome
	runClient(tb, ns, group, o, &got)
	if got.Count < 20 { // of some thousands, where nobody else has the CPU
		tb.Fatalf("%s to %s: only %d in %s", o.Kind, o.At, got.Count, o.For)
	}
	return got.Figure
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func at(ip netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(ip, port) }

func name(parts ...any) string { return fmt.Sprint(parts...) }
