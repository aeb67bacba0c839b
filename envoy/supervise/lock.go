// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft"
)

const lockFile = "weft-envoy.lock"

// ErrRuns: another supervisor runs for the folder.
var ErrRuns = errors.New("another weft-envoy runs for this folder")

// acquire makes this the folder's only supervisor, until the file is closed or the
// process ends. The file holds the process's number and command line.
func acquire(cfg Config) (*os.File, error) {
	path := cfg.file(lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (it holds %s)", ErrRuns, path)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	text := strconv.Itoa(os.Getpid()) + "\n" + strings.Join(identity(os.Args[1:]), "\n") + "\n"
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	return f, nil
}

// identity of a supervisor that runs with these arguments.
func identity(args []string) []string { return append([]string{weft.Version()}, args...) }

// holder is the process that runs for a folder, and its identity; 0 if none does.
func holder(cfg Config) (pid int, is []string, err error) {
	f, err := os.Open(cfg.file(lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("looking for a supervisor: %w", err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, nil, nil // closing gives it back
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return 0, nil, fmt.Errorf("looking for a supervisor: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	pid, err = strconv.Atoi(lines[0])
	if err != nil {
		return 0, nil, fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	return pid, lines[1:], nil
}
