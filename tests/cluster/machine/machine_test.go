// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test be PID 1 of a machine, be what enters one, and start one
// and then wait to be killed.
func TestMain(m *testing.M) {
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == "machine":
		Main(args[1])
	case len(args) > 2 && args[0] == "enter":
		fmt.Println(Enter(args[1], args[2:], nil))
		os.Exit(1)
	case len(args) == 2 && args[0] == "start":
		spec := Spec{Hostname: "bound", Bound: true, Services: []Service{{Name: "sleep", Args: []string{"sleep", "1000"}}}}
		fmt.Println("started:", Start(args[1], os.Args[0], spec, nil, func(int) error { return nil }))
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
	}
	os.Exit(m.Run())
}

func start(t *testing.T, dir string, spec Spec, listener *os.File) {
	t.Helper()
	t.Cleanup(func() {
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	if err := Start(dir, os.Args[0], spec, listener, func(int) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func enter(t *testing.T, dir, command string) string {
	t.Helper()
	out, err := exec.Command(os.Args[0], "enter", dir, "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if err := waitFor(t.Context(), 20*time.Second, what, holds); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceRunsInTheMachineAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	start(t, dir, Spec{Hostname: "m", Services: []Service{
		{Name: "greet", Env: []string{"WHO=world"}, Args: []string{"sh", "-c", "echo hello $WHO from $(hostname); exec sleep 1000"}},
		{Name: "wrong", Args: []string{"/no/such/program"}},
	}}, nil)
	var first Process
	eventually(t, "the service", func() bool {
		p, err := ServiceProcess(dir, "greet")
		first = p
		log, _ := os.ReadFile(filepath.Join(dir, "log/greet.log"))
		return err == nil && string(log) == "hello world from m\n"
	})
	if err := Signal(dir, "greet", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the service to come back", func() bool {
		p, err := ServiceProcess(dir, "greet")
		return err == nil && p.PID != first.PID
	})
	if _, err := ServiceProcess(dir, "wrong"); err == nil {
		t.Error("a program that does not exist runs")
	}
	log, err := os.ReadFile(filepath.Join(dir, "log/init.log"))
	if err != nil || !strings.Contains(string(log), "starting wrong: ") || !strings.Contains(string(log), "greet ended: ") {
		t.Errorf("the log of PID 1: %v: %s", err, log)
	}
}

func TestANodeHasFilesAndGroupsOfItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	group := fmt.Sprintf("weft-machine-test-%d", os.Getpid())
	spec := Spec{Hostname: "node", Node: true, CgroupName: group, Disk: []string{"/var/lib/kept"},
		Files:   map[string]string{"/etc/weft-machine-test/file": "text", "/opt/weft-machine-test/folder/": ""},
		Sysctls: map[string]string{"net/ipv4/ip_forward": "1"}, Pretend: map[string]string{"kernel/panic": "4242"}}
	start(t, dir, spec, nil)
	got := enter(t, dir, `cat /etc/weft-machine-test/file; ls /opt/weft-machine-test; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/panic
		echo 5 >/proc/sys/kernel/panic; cut -d: -f3 /proc/self/cgroup | sort -u; ls /run/netns; touch /var/lib/kept/it /run/not; cat /proc/1/comm`)
	groupRoot := "/"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		groupRoot = "/init"
	}
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if want := "textfolder\n1\n4242\n" + groupRoot + "\n" + strings.TrimSpace(string(self)); got != want {
		t.Errorf("in the node: %q, not %q", got, want)
	}
	for _, p := range []string{"/etc/weft-machine-test", "/opt/weft-machine-test", "/var/lib/kept", "/run/not"} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is here outside", p)
		}
	}
	if value, err := os.ReadFile("/proc/sys/kernel/panic"); err != nil || strings.TrimSpace(string(value)) == "5" {
		t.Errorf("kernel.panic outside is %s, %v", value, err)
	}
	if err := Stop(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := Start(dir, os.Args[0], spec, nil, func(int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := enter(t, dir, "ls /var/lib/kept /run/not 2>/dev/null; true"); got != "/var/lib/kept:\nit" {
		t.Errorf("after another start: %q", got)
	}
}

func TestTheProxyLeadsInside(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	dir := filepath.Join(t.TempDir(), "m")
	start(t, dir, Spec{Hostname: "m", Proxy: "127.0.0.1:7000"}, file)
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// Nobody listens inside, in a network where lo alone is.
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v, of nobody", n, err)
	}
}

func TestAMachineEndsWithWhoStartedItIfBound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	starter := exec.Command(os.Args[0], "start", dir)
	if _, err := starter.StdinPipe(); err != nil { // which stays open
		t.Fatal(err)
	}
	starter.Stdout = os.Stderr
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	var all []Process
	eventually(t, "the machine and its service", func() bool {
		_, err := ServiceProcess(dir, "sleep")
		all, _ = Processes(dir)
		return err == nil && len(all) >= 2
	})
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = starter.Wait() // killed
	eventually(t, "the machine's end", func() bool {
		for _, p := range all {
			if p.Alive() {
				return false
			}
		}
		return true
	})
}

func TestWhoGotTheNumberOfAProcessIsNotKilled(t *testing.T) {
	self, ok := look(os.Getpid())
	if !ok || !self.Alive() {
		t.Fatalf("this process is not seen: %+v", self)
	}
	other := Process{PID: self.PID, Start: self.Start - 1}
	if err := other.kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pidfd(other); !errors.Is(err, errGone) {
		t.Errorf("holding on to a process that has ended: %v", err)
	}
}

func TestOptionsOfAHierarchyMountItAgain(t *testing.T) {
	for shown, want := range map[string]string{
		"rw,memory": "memory", "rw,cpu,cpuacct": "cpu,cpuacct", "rw,cpuset,clone_children": "cpuset",
		"rw,xattr,name=systemd": "none,name=systemd", "rw,xattr,release_agent=/lib/x,name=systemd": "none,name=systemd",
	} {
		if got := mountOptions(shown); got != want {
			t.Errorf("%q gives %q, not %q", shown, got, want)
		}
	}
}
