// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// findNetNS finds a path to each of some network namespaces, given by their
// numbers: a process in it, or a file that it is bound to, as runtimes do for
// pods. One that only an open file or a socket keeps alive has no path.
func findNetNS(numbers []uint32) (map[uint32]string, error) {
	want := make(map[string]uint32, len(numbers)) // by what a link to it says
	for _, n := range numbers {
		want[fmt.Sprintf("net:[%d]", n)] = n
	}
	found := make(map[uint32]string, len(numbers))
	if err := findBound(want, found); err != nil {
		return nil, fmt.Errorf("looking for network namespaces: %w", err)
	}
	if len(found) == len(numbers) {
		return found, nil
	}
	processes, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, fmt.Errorf("looking for network namespaces: %w", err)
	}
	for _, path := range processes {
		name, err := os.Readlink(path)
		if err != nil {
			continue // the process has just ended
		}
		if n, ok := want[name]; ok {
			found[n] = path
		}
	}
	return found, nil
}

// findBound looks among the mounts: the root of a namespace's mount is its name.
func findBound(want map[string]uint32, found map[uint32]string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if n, ok := want[fields[3]]; ok {
			found[n] = unescape.Replace(fields[4])
		}
	}
	return lines.Err()
}

// inNetNS runs f on a thread that is in the network namespace with that number.
// A thread that cannot go back to where it came from is thrown away.
func inNetNS(path string, number uint32, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := enterNetNS(path, number)
		if err != nil {
			runtime.UnlockOSThread() // it has not left
			done <- err
			return
		}
		err = f()
		if back() == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enterNetNS moves the thread; back brings it home.
func enterNetNS(path string, number uint32) (back func() error, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("opening the agent's own network namespace: %w", err)
	}
	there, err := os.Open(path)
	if err != nil {
		home.Close()
		return nil, fmt.Errorf("opening network namespace %d: %w", number, err)
	}
	defer there.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(there.Fd()), &st); err != nil || st.Ino != uint64(number) {
		home.Close()
		return nil, fmt.Errorf("%s is not network namespace %d any more", path, number)
	}
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		home.Close()
		return nil, fmt.Errorf("entering network namespace %s: %w", path, err)
	}
	return func() error {
		defer home.Close()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	}, nil
}
