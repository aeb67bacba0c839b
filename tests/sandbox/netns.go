// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// NS is a network namespace with a name under /run/netns. The zero value with
// an empty Path stands for the sandbox's own (the node's).
type NS struct {
	Name string
	Path string
}

// Host is the node's network namespace.
func Host() *NS { return &NS{Name: "host"} }

// NewNS makes a network namespace, lo up, as a container runtime does for a pod.
func NewNS(name string) (*NS, error) {
	ns := &NS{Name: name, Path: filepath.Join(netnsDir, name)}
	f, err := os.OpenFile(ns.Path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("making namespace %s: %w", name, err)
	}
	_ = f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unsharing: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", ns.Path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", ns.Path, err)
		}
		return loopbackUp()
	})
	if err != nil {
		_ = os.Remove(ns.Path)
		return nil, fmt.Errorf("making namespace %s: %w", name, err)
	}
	return ns, nil
}

// Close removes the name; the namespace ends when nothing in it is left.
func (n *NS) Close() error {
	if n.Path == "" {
		return nil
	}
	if err := unix.Unmount(n.Path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unbinding namespace %s: %w", n.Name, err)
	}
	return os.Remove(n.Path)
}

// Do runs f on a thread that is in the namespace. Sockets that f opens and
// processes that it starts belong there for good. f must not start goroutines
// that open sockets themselves.
func (n *NS) Do(f func() error) error {
	if n.Path == "" {
		return f()
	}
	return onThread(func() error {
		fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening namespace %s: %w", n.Name, err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own and brings that thread back to the
// network namespace that it came from; one that cannot go back is thrown away.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("opening the thread's namespace: %w", err)
			return
		}
		defer func() { _ = unix.Close(home) }()
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Dial connects from the namespace. addr is an address literal with a port.
func (n *NS) Dial(network, addr string, timeout time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.DialTimeout(network, addr, timeout)
		return err
	})
	return conn, err
}

// TakePorts has sockets of the namespace that name no port take theirs from first to
// last, for both families (net.ipv4.ip_local_port_range).
func (n *NS) TakePorts(first, last uint16) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", first, last), 0)
	})
}

// Listen opens a plain TCP listener (never MPTCP) in the namespace.
func (n *NS) Listen(network, addr string) (net.Listener, error) {
	var ln net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(context.Background(), network, addr)
		return err
	})
	return ln, err
}

// ListenPacket opens a UDP socket in the namespace.
func (n *NS) ListenPacket(network, addr string) (net.PacketConn, error) {
	var pc net.PacketConn
	err := n.Do(func() (err error) {
		pc, err = net.ListenPacket(network, addr)
		return err
	})
	return pc, err
}

// Eventually polls check until it returns nil or the deadline has passed; the
// error then carries what was waited for and the last reason.
func Eventually(ctx context.Context, within time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not seen within %s: %w", what, within, err)
		case <-tick.C:
		}
	}
}
