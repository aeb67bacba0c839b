// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// archive writes an initramfs: a cpio archive in the "newc" format.
type archive struct {
	w     *bufio.Writer
	inode int
	dirs  map[string]bool
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), dirs: map[string]bool{"/": true}}
}

// file adds a file with its folders; name is its absolute path in the machine.
func (a *archive) file(name string, mode uint32, content []byte) {
	a.folder(path.Dir(name))
	a.entry(name, 0o100000|mode, content)
}

// copy adds a file of this machine.
func (a *archive) copy(name, from string) {
	content, err := os.ReadFile(from)
	if err != nil {
		a.fail(err)
		return
	}
	a.file(name, 0o755, content)
}

// copyDir adds the files of a folder, without folders in it.
func (a *archive) copyDir(name, from string) {
	files, err := os.ReadDir(from)
	if err != nil {
		a.fail(err)
		return
	}
	for _, f := range files {
		if f.Type().IsRegular() {
			a.copy(path.Join(name, f.Name()), filepath.Join(from, f.Name()))
		}
	}
}

func (a *archive) folder(name string) {
	if a.dirs[name] {
		return
	}
	a.folder(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, 0o040755, nil)
}

// console adds /dev/console, which the kernel gives to the init before anything
// is mounted.
func (a *archive) console() {
	a.folder("/dev")
	a.header("/dev/console", 0o020600, 0, 5, 1)
}

func (a *archive) entry(name string, mode uint32, content []byte) {
	a.header(name, mode, len(content), 0, 0)
	a.write(content)
	a.pad(len(content))
}

func (a *archive) header(name string, mode uint32, size, major, minor int) {
	name = name[1:]
	a.inode++
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0)
	a.write([]byte(head + name + "\x00"))
	a.pad(len(head) + len(name) + 1)
}

// pad fills up to a multiple of four.
func (a *archive) pad(n int) { a.write(make([]byte, -n&3)) }

func (a *archive) write(b []byte) {
	if _, err := a.w.Write(b); err != nil {
		a.fail(err)
	}
}

func (a *archive) fail(err error) {
	if a.err == nil {
		a.err = fmt.Errorf("writing the initramfs: %w", err)
	}
}

// close ends the archive and tells the first error of all calls.
func (a *archive) close() error {
	a.header("/TRAILER!!!", 0, 0, 0, 0)
	if err := a.w.Flush(); err != nil {
		a.fail(err)
	}
	return a.err
}
