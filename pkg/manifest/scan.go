// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxFile bounds what is read of one file, in bytes.
	maxFile = 16 << 20
	// longestWrite is how long a changed file is left alone because a process
	// has it open for writing.
	longestWrite = 10 * time.Second
)

// stamp changes whenever a file does; the time of the last change of the inode
// cannot be set back by tools that keep the time of modification. The zero
// stamp stands for a file that is not there.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
	fault        string // why the file cannot be read
}

// scanner compares the folder on disk with what has been read of it. A change
// counts only after a quiet time, so that a file that is being written, or is
// removed to be created anew, is not seen halfway.
type scanner struct {
	dir    string
	quiet  time.Duration
	read   map[string]stamp // as last taken into the folder
	waits  map[string]wait  // changed, not yet quiet
	folder *folder
	primed bool // the first scan, which waits for nothing, is done
}

type wait struct {
	stamp stamp
	since time.Time // of this stamp
	begun time.Time // of waiting
}

func newScanner(dir string, quiet time.Duration) *scanner {
	return &scanner{
		dir: dir, quiet: quiet, folder: newFolder(),
		read: make(map[string]stamp), waits: make(map[string]wait),
	}
}

// restore takes what a former run kept, before the first scan. Each of its files
// counts as read with another stamp than any it can have, so that the scan reads
// it, or finds it gone.
func (s *scanner) restore(good map[string][]byte, damaged map[string]error) {
	s.folder.restore(good, damaged)
	for name := range s.folder.files {
		s.read[name] = stamp{fault: "not read yet"}
	}
}

// scan brings the folder up to date and tells whether it may have changed.
// What is not yet quiet is left in waits.
func (s *scanner) scan(now time.Time) (changed bool) {
	names, err := manifestNames(s.dir)
	if err != nil {
		return s.setFault([]Problem{{Message: fmt.Sprintf(
			"reading the manifest folder: %v; what it last held stays in effect until it can be read", err), Kept: true}})
	}
	changed = s.setFault(nil)
	found := make(map[string]stamp, len(names))
	for _, name := range names {
		if st := stampOf(filepath.Join(s.dir, name)); st != (stamp{}) {
			found[name] = st
		}
	}
	for name := range s.read {
		if _, ok := found[name]; !ok {
			found[name] = stamp{}
		}
	}
	for name, st := range found {
		if s.settled(name, st, now) && s.take(name, st, now) {
			changed = true
		}
	}
	for name := range s.waits {
		if _, ok := found[name]; !ok {
			delete(s.waits, name) // came and went
		}
	}
	s.primed = true
	return changed
}

func (s *scanner) setFault(p []Problem) (changed bool) {
	changed = len(p) != len(s.folder.problems) || (len(p) > 0 && p[0] != s.folder.problems[0])
	s.folder.problems = p
	return changed
}

// settled tells whether a file differs from what was read and is quiet.
func (s *scanner) settled(name string, st stamp, now time.Time) bool {
	if st == s.read[name] {
		delete(s.waits, name)
		return false
	}
	w, waiting := s.waits[name]
	if !waiting {
		w.begun = now
	}
	if !waiting || w.stamp != st {
		w.stamp, w.since = st, now
		s.waits[name] = w
	}
	return !s.primed || now.Sub(w.since) >= s.quiet
}

// take reads a file into the folder, unless it changes meanwhile.
func (s *scanner) take(name string, st stamp, now time.Time) bool {
	switch {
	case st == (stamp{}):
		s.folder.remove(name)
		delete(s.read, name)
		delete(s.waits, name)
		return true
	case st.fault != "":
		s.folder.fail(name, st.fault)
	default:
		path := filepath.Join(s.dir, name)
		begun := s.waits[name].begun
		data, err := readFile(path, now.Sub(begun) < longestWrite)
		if errors.Is(err, errBeingWritten) {
			return false
		}
		if after := stampOf(path); after != st {
			s.waits[name] = wait{stamp: after, since: now, begun: begun}
			return false
		}
		if err != nil {
			s.folder.fail(name, fmt.Sprintf("%v; correct its permissions or remove it", err))
		} else {
			s.folder.update(name, data)
		}
	}
	s.read[name] = st
	delete(s.waits, name)
	return true
}

// manifestNames lists the files that hold manifests; a folder that does not
// exist has none. Folders inside and names with a leading dot, which editors
// and mounted ConfigMaps use for their own ends, are passed over.
func manifestNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// stampOf follows symbolic links.
func stampOf(path string) stamp {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if unix.Lstat(path, &st) != nil {
			return stamp{} // gone since it was listed
		}
		return stamp{ino: st.Ino, ctime: st.Ctim, fault: fmt.Sprintf("cannot be read: %v; mend the link or remove it", err)}
	}
	out := stamp{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		out.fault = "not a regular file; remove it, or give it another ending"
	case st.Size > maxFile:
		out.fault = fmt.Sprintf("larger than %d MiB; split it", maxFile>>20)
	}
	return out
}

// errBeingWritten tells that a process has the file open for writing.
var errBeingWritten = errors.New("being written")

// readFile reads a file; if patient, only one that nobody is writing.
func readFile(path string, patient bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if patient && beingWritten(f) {
		return nil, errBeingWritten
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// beingWritten asks for a read lease, which the kernel refuses with EAGAIN
// while the file is open for writing, and gives it back at once. Any other
// answer, as on a file system without leases, tells nothing.
func beingWritten(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}
