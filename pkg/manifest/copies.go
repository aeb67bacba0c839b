// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weftmesh/weft/pkg/attachment"
)

// copyHeader begins a copy; the SHA-256 of what follows ends its line. A copy
// cut short could be a valid manifest that allows more than the whole one.
const copyHeader = "weft-manifest-copy 1 sha256:"

// copies keeps what each file held when it was last right, one file each of the
// same name, so that a file that is faulty when the agent starts still has a
// last good content. An empty folder name keeps nothing.
type copies struct {
	dir  string
	kept map[string][sha256.Size]byte // sum of each copy; zero: a damaged one
}

func newCopies(dir string) *copies {
	return &copies{dir: dir, kept: make(map[string][sha256.Size]byte)}
}

// load reads all copies; damaged tells for each that is of no use why.
func (c *copies) load() (good map[string][]byte, damaged map[string]error, err error) {
	if c.dir == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("reading the copies of manifests: %w", err)
	}
	good, damaged = make(map[string][]byte), make(map[string]error)
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") { // a crash left it half-written
			if err := attachment.RemoveFile(path); err != nil {
				return nil, nil, fmt.Errorf("removing a half-written copy of a manifest: %w", err)
			}
			continue
		}
		data, err := readCopy(path)
		if err != nil {
			damaged[e.Name()], c.kept[e.Name()] = err, [sha256.Size]byte{}
			continue
		}
		good[e.Name()], c.kept[e.Name()] = data, sha256.Sum256(data)
	}
	return good, damaged, nil
}

func readCopy(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line, data, _ := bytes.Cut(raw, []byte("\n"))
	sum := sha256.Sum256(data)
	if string(line) != copyHeader+hex.EncodeToString(sum[:]) {
		return nil, errors.New("its checksum does not match")
	}
	return data, nil
}

// keep brings one copy up to date.
func (c *copies) keep(name string, data []byte) error {
	sum := sha256.Sum256(data)
	if c.dir == "" || c.kept[name] == sum {
		return nil
	}
	content := append([]byte(copyHeader+hex.EncodeToString(sum[:])+"\n"), data...)
	if err := attachment.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
		return err
	}
	c.kept[name] = sum
	return nil
}

// drop removes the copies of files that are gone.
func (c *copies) drop(gone func(name string) bool) error {
	var errs []error
	for name := range c.kept {
		if !gone(name) {
			continue
		}
		if err := attachment.RemoveFile(filepath.Join(c.dir, name)); err != nil {
			errs = append(errs, fmt.Errorf("removing the copy of %s: %w", name, err))
			continue
		}
		delete(c.kept, name)
	}
	return errors.Join(errs...)
}
