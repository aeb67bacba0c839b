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
