// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/rounds"
)

// webOrder is what a client of the web asks. With a rate, each request is due at a
// time of its own, whatever became of those before, and takes from then until its
// answer is there: a server that stalls makes all late that were due meanwhile.
// Without a rate, each connection asks as soon as it can.
type webOrder struct {
	Protocol string // of protocols
	Rate     int    // requests a second
	Conns    int    // that may be open at a time
	Fresh    bool   // a connection for each request
}

// webOutcome is what a client has seen.
type webOutcome struct {
	PerSecond float64 // answers
	P50, P99  float64 // microseconds
	Count     int
	All       int     // with those that came before it counted
	Failed    int     // requests without an answer
	CPU       float64 // seconds of this process
}

// webClient is the client's one thread: an event loop over all its connections.
type webClient struct {
	order
	epoll int
	conns []*webConn
	begin time.Time
	due   []time.Time // requests that are due and have no connection yet
	asked int         // requests that were ever due
	took  []float64
	all   int // answers
	lost  int // requests without one
}

// tooMany failures are no figure any more.
const tooMany = 1000

// webConn is one connection, open or not.
type webConn struct {
	client *webClient
	fd     int // -1: not open
	up     bool
	speaks exchange
	out    []byte // still to be sent
	in     []byte // came, and is no whole message yet
	asked  []time.Time
}

func askWeb(o order) error {
	c := &webClient{order: o}
	var err error
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for range o.Web.Conns {
		conn := &webConn{client: c, fd: -1}
		if c.conns = append(c.conns, conn); !o.Web.Fresh {
			if err := conn.open(); err != nil {
				return err
			}
		}
	}
	whole := o.For + o.For/10
	events := make([]unix.EpollEvent, 256)
	before := ownCPU()
	c.begin = time.Now()
	clock, err := c.clock()
	if err != nil {
		return err
	}
	for time.Since(c.begin) < whole {
		if err := c.assign(); err != nil {
			return err
		}
		n, err := unix.EpollWait(c.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == clock {
				var ticks [8]byte
				_, _ = unix.Read(clock, ticks[:])
				continue
			}
			if err := c.conns[e.Pad].ready(e.Events); err != nil {
				if err := c.conns[e.Pad].fail(err); err != nil {
					return err
				}
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(webOutcome{PerSecond: float64(len(c.took)) / o.For.Seconds(), Count: len(c.took), All: c.all, Failed: c.lost,
		CPU: ownCPU() - before, P50: rounds.Quantile(c.took, 0.5), P99: rounds.Quantile(c.took, 0.99)})
}

// clock wakes the loop when a request is due, to the microsecond.
func (c *webClient) clock() (int, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil || c.Web.Rate == 0 {
		return fd, err
	}
	every := unix.NsecToTimespec(int64(time.Second) / int64(c.Web.Rate))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return 0, err
	}
	return fd, unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// assign gives what is due to connections that are free.
func (c *webClient) assign() error {
	now := time.Now()
	if c.Web.Rate > 0 {
		every := time.Second / time.Duration(c.Web.Rate)
		for at := c.begin.Add(time.Duration(c.asked) * every); !at.After(now); at = at.Add(every) {
			c.due = append(c.due, at)
			c.asked++
		}
	}
	for _, conn := range c.conns {
		for conn.free() {
			at := now
			if c.Web.Rate > 0 {
				if len(c.due) == 0 {
					return nil
				}
				at, c.due = c.due[0], c.due[1:]
			}
			if err := conn.ask(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// note an answer to what was due at a time; the first tenth does not count.
func (c *webClient) note(due time.Time) {
	c.all++
	if now := time.Now(); now.Sub(c.begin) > c.For/10 && now.Sub(c.begin) < c.For+c.For/10 {
		c.took = append(c.took, float64(now.Sub(due).Nanoseconds())*1e-3)
	}
}

// fail begins anew with a connection on which something went wrong.
func (c *webConn) fail(why error) error {
	if c.client.lost += max(1, len(c.asked)); c.client.lost > tooMany {
		return fmt.Errorf("%d requests failed, the last one: %w", c.client.lost, why)
	}
	fmt.Fprintln(os.Stderr, "peer:", c.client.At, why)
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
	c.fd, c.up, c.asked = -1, false, c.asked[:0]
	if c.client.Web.Fresh {
		return nil
	}
	return c.open()
}

func (c *webConn) free() bool {
	if c.client.Web.Fresh {
		return c.fd < 0
	}
	return c.up && len(c.asked) < c.speaks.atOnce()
}

// open begins to connect; what is asked meanwhile waits.
func (c *webConn) open() error {
	family, sa := sockaddr(c.client.At)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	c.fd, c.up, c.in, c.out = fd, false, c.in[:0], c.out[:0]
	c.speaks = protocols()[c.client.Web.Protocol].client(c.client.Web.Fresh)
	c.out = c.speaks.hello(c.out)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connecting: %w", err)
	}
	return unix.EpollCtl(c.client.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET&math.MaxUint32, Fd: int32(fd), Pad: c.index()})
}

func (c *webConn) index() int32 {
	for i, other := range c.client.conns {
		if other == c {
			return int32(i)
		}
	}
	return -1
}

func (c *webConn) ask(due time.Time) error {
	if c.fd < 0 {
		if err := c.open(); err != nil {
			return err
		}
	}
	c.asked = append(c.asked, due)
	c.out = c.speaks.request(c.out)
	if !c.up {
		return nil
	}
	return c.flush()
}

func (c *webConn) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("asking: %w", err)
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	return nil
}

// ready goes on with a connection as far as it can.
func (c *webConn) ready(events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			return fmt.Errorf("connecting: %w", errors.Join(err, unix.Errno(code)))
		}
		c.up = true
		if err := c.flush(); err != nil {
			return err
		}
	}
	for c.fd >= 0 && events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		var buf [64 << 10]byte
		n, err := unix.Read(c.fd, buf[:])
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil || n == 0 && len(c.asked) > 0 {
			return fmt.Errorf("a connection ended with %d requests without an answer: %w", len(c.asked), errors.Join(errEnded, err))
		}
		if n == 0 {
			return errEnded
		}
		if err := c.take(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

var errEnded = errors.New("the other side has closed")

// take reads what came.
func (c *webConn) take(more []byte) error {
	c.in = append(c.in, more...)
	used, answered, err := c.speaks.read(c.in, &c.out)
	if err != nil {
		return err
	}
	c.in = c.in[:copy(c.in, c.in[used:])]
	for range answered {
		c.client.note(c.asked[0])
		c.asked = c.asked[:copy(c.asked, c.asked[1:])]
	}
	if c.client.Web.Fresh && answered > 0 {
		// With a reset: ports are used again at once, on every side alike.
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		err := unix.Close(c.fd)
		c.fd, c.up = -1, false
		return err
	}
	return c.flush()
}

// ownCPU is what this process has used so far, in seconds.
func ownCPU() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) * 1e-9
}
