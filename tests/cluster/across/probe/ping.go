// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ping sends one echo request of Size bytes with its IP header, that no one may cut,
// and waits for the answer or for who says that it is too big.
func (a Attempt) ping() Answer {
	to, err := netip.ParseAddr(a.To)
	if err != nil {
		return answerOf(err)
	}
	p, err := newPing(to)
	if err != nil {
		return answerOf(err)
	}
	defer func() { _ = unix.Close(p.fd) }()
	switch err := p.send(a.Size); {
	case errors.Is(err, unix.EMSGSIZE):
		return p.tooBig() // our own device's MTU, already
	case err != nil:
		return answerOf(err)
	}
	return p.wait(time.Now().Add(a.Wait))
}

// echoes numbers the requests of this process.
type echoes struct{ last atomic.Uint32 }

//nolint:gochecknoglobals // one process, one number space
var echo = &echoes{}

type ping struct {
	fd int
	to netip.Addr
	id uint16
}

func newPing(to netip.Addr) (*ping, error) {
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if to.Is6() {
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("opening a raw socket: %w", err)
	}
	p := &ping{fd: fd, to: to, id: uint16(unix.Getpid()<<8) + uint16(echo.last.Add(1))} //nolint:gosec // any number
	if to.Is6() {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1))
	} else {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1))
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return p, nil
}

func (p *ping) send(size int) error {
	kind, header := byte(8), 20
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(p.to)}
	if p.to.Is6() {
		kind, header = 128, 40
		to = &unix.SockaddrInet6{Addr: p.to.As16()}
	}
	b := make([]byte, max(16, size-header))
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], p.id)
	if !p.to.Is6() { // of ICMPv6 the kernel makes the sum
		binary.BigEndian.PutUint16(b[2:], sum(b))
	}
	return unix.Sendto(p.fd, b, 0, to)
}

// sum is the internet checksum.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s) //nolint:gosec // 16 bits are left
}

func (p *ping) wait(until time.Time) Answer {
	buf := make([]byte, 1<<16)
	for {
		left := time.Until(until).Milliseconds()
		if left <= 0 {
			return Answer{Error: "timeout"}
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
		if _, err := unix.Poll(fds, int(left)); err != nil && !errors.Is(err, unix.EINTR) {
			return answerOf(err)
		}
		if fds[0].Revents&unix.POLLERR != 0 {
			return p.tooBig()
		}
		n, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return answerOf(err)
		}
		if p.answers(buf[:n]) {
			return Answer{Who: p.to.String()}
		}
	}
}

func (p *ping) answers(b []byte) bool {
	kind := byte(129)
	if !p.to.Is6() {
		kind = 0
		if len(b) < 20 {
			return false
		}
		b = b[int(b[0]&15)*4:]
	}
	return len(b) >= 8 && b[0] == kind && binary.BigEndian.Uint16(b[4:]) == p.id
}

// tooBig reads the error queue of the socket: struct sock_extended_err, with the
// address of who sent the error behind it.
func (p *ping) tooBig() Answer {
	oob := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(p.fd, make([]byte, 128), oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return answerOf(fmt.Errorf("reading the error queue: %w", err))
	}
	all, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return answerOf(err)
	}
	for _, m := range all {
		if len(m.Data) < 16 {
			continue
		}
		number, info := binary.NativeEndian.Uint32(m.Data), binary.NativeEndian.Uint32(m.Data[8:])
		if errno := unix.Errno(number); errno != unix.EMSGSIZE {
			return answerOf(errno)
		}
		return Answer{Error: fmt.Sprintf("too big %d from %s", info, offender(m.Data))}
	}
	return Answer{Error: "an error without words"}
}

// offender is who sent an error, behind 16 bytes of it; "here" if it is our own.
func offender(b []byte) string {
	const local = 1
	if b[4] == local {
		return "here"
	}
	b = b[16:]
	switch {
	case len(b) >= int(unsafe.Sizeof(unix.RawSockaddrInet6{})) && binary.NativeEndian.Uint16(b) == unix.AF_INET6:
		a, _ := netip.AddrFromSlice(b[8:24])
		return a.String()
	case len(b) >= 8 && binary.NativeEndian.Uint16(b) == unix.AF_INET:
		a, _ := netip.AddrFromSlice(b[4:8])
		return a.String()
	}
	return "somebody"
}

func as4(a netip.Addr) [4]byte {
	if a.Is6() {
		return [4]byte{}
	}
	return a.As4()
}
