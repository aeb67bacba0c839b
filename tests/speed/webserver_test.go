// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// served is a connection of the server's.
type served struct {
	speaks exchange
	in     []byte
	out    []byte
}

// serveWeb answers both protocols, each at its port and at the port where no proxy
// comes between, in one thread.
func serveWeb(o order) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	speaks := map[int]string{}
	for name, port := range webPorts() {
		for _, at := range []uint16{port, port + toDirect} {
			fd, err := listenAt(netip.AddrPortFrom(o.At.Addr(), at))
			if err != nil {
				return err
			}
			if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
				return err
			}
			speaks[fd] = name
		}
	}
	fmt.Println("ready")
	conns := map[int]*served{}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if name, listens := speaks[fd]; listens {
				accept(epoll, fd, name, conns)
			} else if c := conns[fd]; c != nil && !c.serve(fd) {
				delete(conns, fd)
				_ = unix.Close(fd)
			}
		}
	}
}

const toDirect = 10 // from a protocol's port to the one without a proxy

func webPorts() map[string]uint16 { return map[string]uint16{"http1": http1Port, "grpc": grpcPort} }

func listenAt(at netip.AddrPort) (int, error) {
	family, sa := sockaddr(at)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sa), unix.Listen(fd, 4096)); err != nil {
		return 0, fmt.Errorf("listening at %s: %w", at, err)
	}
	return fd, nil
}

func accept(epoll, listener int, name string, conns map[int]*served) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return // nothing else has come yet
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}) != nil {
			_ = unix.Close(fd)
			continue
		}
		conns[fd] = &served{speaks: protocols()[name].server(false)}
	}
}

// serve answers what has come; false ends the connection.
func (c *served) serve(fd int) bool {
	var buf [64 << 10]byte
	n, err := unix.Read(fd, buf[:])
	if errors.Is(err, unix.EAGAIN) {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	c.in = append(c.in, buf[:n]...)
	used, _, err := c.speaks.read(c.in, &c.out)
	if err != nil {
		return false
	}
	c.in = c.in[:copy(c.in, c.in[used:])]
	for len(c.out) > 0 {
		n, err := unix.Write(fd, c.out)
		if err != nil {
			return false // clients of ours take what they are sent
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	return true
}
