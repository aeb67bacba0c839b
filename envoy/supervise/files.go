// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/pkg/attachment"
)

// describe tells one way of running Envoy from another: the binary (by size and time,
// without reading it), its arguments and its bootstrap.
func describe(cfg Config) (string, error) {
	st, err := os.Stat(cfg.Binary)
	if err != nil {
		return "", fmt.Errorf("looking for Envoy: %w", err)
	}
	text, err := bootstrap.Build(cfg.Bootstrap)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, st.Size(), st.ModTime().UnixNano(), plainArguments(cfg))
	sum.Write(text)
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// writeFile replaces a file's content, if it is another, in one step.
func writeFile(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return attachment.WriteFile(path, text, 0o600)
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
