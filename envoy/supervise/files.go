// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// stamp tells one content of a file from another without reading it.
type stamp struct {
	size     int64
	modified time.Time
}

func stampOf(path string) (stamp, error) {
	st, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{st.Size(), st.ModTime()}, nil
}

// writeFile replaces a file's content, if it is another, in one step.
func writeFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// maxLog bounds what Envoy writes: what is older is let go.
const maxLog = 4 << 20

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening Envoy's log: %w", err)
	}
	return f, nil
}

// trimLog empties a log that is too long. All its writers append, so none leaves a
// hole.
func trimLog(f *os.File) {
	if st, err := f.Stat(); err == nil && st.Size() > maxLog {
		_ = f.Truncate(0) // if it fails, it is tried again
	}
}
