// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJSONAwayFromATerminal(t *testing.T) {
	var buf bytes.Buffer
	var level slog.LevelVar
	log := New(&level, &buf)
	log.Debug("unseen")
	level.Set(slog.LevelDebug)
	log.Debug("seen", "n", 1)
	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatalf("%q: %v", buf.String(), err)
	}
	if got["msg"] != "seen" || got["n"] != 1.0 || got["level"] != "DEBUG" {
		t.Errorf("got %v", got)
	}
}

func TestTextAtATerminal(t *testing.T) {
	main, term := openTerminal(t)
	New(new(slog.LevelVar), term).Info("hello", "a", "b")
	buf := make([]byte, 256)
	n, err := main.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(buf[:n]); !strings.Contains(got, "level=INFO msg=hello a=b") {
		t.Errorf("got %q", got)
	}
}

// openTerminal makes a pseudo-terminal: what is written to term is read from
// main.
func openTerminal(t *testing.T) (main, term *os.File) {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { main.Close() })
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	term, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { term.Close() })
	return main, term
}
