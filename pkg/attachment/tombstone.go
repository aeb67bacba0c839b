// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tombstone is the content of a tombstone's file.
type tombstone struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// TombstonePath is where the tombstone of an attachment lies.
func TombstonePath(stateDir string, k Key) string {
	return filepath.Join(TombstoneDir(stateDir), k.FileName())
}

// WriteTombstone notes that the attachment was deleted and that the agent has
// still to release it.
func WriteTombstone(stateDir string, k Key) error {
	if err := k.Validate(); err != nil {
		return err
	}
	data, err := json.Marshal(tombstone(k))
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	return WriteFile(TombstonePath(stateDir, k), data, 0o600)
}

// HasTombstone tells whether a tombstone waits for the attachment.
func HasTombstone(stateDir string, k Key) bool {
	_, err := os.Lstat(TombstonePath(stateDir, k))
	return err == nil
}

// RemoveTombstone is called when the attachment is released; no tombstone is no
// error.
func RemoveTombstone(stateDir string, k Key) error {
	return RemoveFile(TombstonePath(stateDir, k))
}

// Tombstones lists what waits, sorted by file name. A file that cannot be read
// is in the error, and the others are still listed.
func Tombstones(stateDir string) ([]Key, error) {
	entries, err := os.ReadDir(TombstoneDir(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing tombstones: %w", err)
	}
	var keys []Key
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() { // "." begins a file that is being written
			continue
		}
		k, err := readTombstone(filepath.Join(TombstoneDir(stateDir), e.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("reading tombstone %s: %w", e.Name(), err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, errors.Join(errs...)
}

func readTombstone(path string) (Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	var t tombstone
	if err := json.Unmarshal(data, &t); err != nil {
		return Key{}, err
	}
	k := Key(t)
	if err := k.Validate(); err != nil {
		return Key{}, err
	}
	if k.FileName() != filepath.Base(path) {
		return Key{}, fmt.Errorf("it speaks of %s", k)
	}
	return k, nil
}
