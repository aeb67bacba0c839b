// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Main is what PID 1 of the machine in dir runs: it waits for its network, moves
// into its groups, puts its file system together and keeps the services running.
// It does not return.
func Main(dir string) {
	if err := initialize(dir); err != nil {
		fmt.Fprintf(os.Stderr, "%s machine %s: %v\n", time.Now().Format(time.RFC3339), filepath.Base(dir), err)
		os.Exit(1)
	}
}

// inGroups tells Main that it has run before, up to where a node is in its groups.
const inGroups = "WEFT_MACHINE_IN_GROUPS"

func initialize(dir string) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	spec, err := Load(dir)
	if err != nil {
		return err
	}
	if os.Getenv(inGroups) == "" {
		if err := waitForNetwork(); err != nil {
			return err
		}
		if spec.Node {
			return enterGroups(spec)
		}
	}
	logs, err := os.OpenRoot(file(dir, "log")) // before something may come to lie over it
	if err != nil {
		return err
	}
	if err := furnish(dir, spec); err != nil {
		return err
	}
	if spec.Proxy != "" {
		if err := proxy(inherited(4), spec.Proxy); err != nil {
			return err
		}
	}
	furnished := inherited(3)
	if _, err := furnished.Write([]byte{1}); err != nil {
		return fmt.Errorf("telling that the machine is furnished: %w", err)
	}
	_ = furnished.Close()
	if spec.Bound {
		go endWithStarter()
	}
	s := supervisor{logs: logs, running: make(map[int]Service)}
	s.run(spec.Services)
	return nil
}

// inherited takes over a descriptor that run gave; services do not get it.
func inherited(fd int) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "inherited")
}

// waitForNetwork reads the byte that says that the links are there. Its writer
// has died if it does not come.
func waitForNetwork() error {
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return fmt.Errorf("not started to its end: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// endWithStarter ends the machine when nobody holds the other end of the pipe.
func endWithStarter() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	say("who started this machine has ended")
	os.Exit(0)
}

// enterGroups moves this process into the node's groups, makes those the roots of
// a cgroup namespace, and runs the program anew: the namespace is this thread's,
// and the new program has no other thread.
func enterGroups(spec *Spec) error {
	runtime.LockOSThread()
	if err := join(spec.Groups, func(g Group) string { return g.Path }); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	if err := join(spec.Groups, Group.leaf); err != nil {
		return err
	}
	return syscall.Exec(os.Args[0], os.Args, append(os.Environ(), inGroups+"=yes"))
}

// proxy connects who comes to the listener, which is in the network namespace of
// who started the machine, with an address in here.
func proxy(file *os.File, to string) error {
	listener, err := net.FileListener(file)
	_ = file.Close() // the listener has its own
	if err != nil {
		return fmt.Errorf("taking over the listener: %w", err)
	}
	go func() { // ends with the machine
		for {
			from, err := listener.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, "accepting a connection:", err)
				time.Sleep(100 * time.Millisecond)
				continue
			}
			go splice(from, to)
		}
	}()
	return nil
}

func splice(from net.Conn, address string) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return // the caller sees a connection that ends, as of a server that is away
	}
	defer func() { _ = to.Close() }()
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, ok := to.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go pass(to, from)
	go pass(from, to)
	<-done
	<-done
}
