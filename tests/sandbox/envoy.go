// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
)

// Envoy is the stock Envoy of the build folder.
func Envoy() (string, error) {
	bin, err := BinDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(bin), "envoy", "envoy")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no Envoy at %s: run make envoy first", path)
	}
	return path, nil
}

// PIDIn is the number of a process that a file begins with.
func PIDIn(path string) (pid int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		return 0, fmt.Errorf("reading the number of a process in %s: %w", path, err)
	}
	return pid, nil
}
