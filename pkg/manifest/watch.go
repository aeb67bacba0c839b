// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// watcher hints that the folder may have changed. It only ever speeds a scan
// up: what it misses, the next periodic scan finds.
type watcher struct {
	dir     string
	inotify *fsnotify.Watcher
	watched map[string]inode
}

type inode struct{ dev, ino uint64 }

func newWatcher(dir string) (*watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("starting inotify: %w", err)
	}
	return &watcher{dir: dir, inotify: w, watched: make(map[string]inode)}, nil
}

// relevant sorts out events in the folders above that are of other names.
func (w *watcher) relevant(e fsnotify.Event) bool {
	within := func(path, dir string) bool {
		return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	}
	parent := filepath.Dir(e.Name)
	above := parent != w.dir && within(w.dir, parent)
	return !above || within(w.dir, e.Name)
}

// sync watches what is to be watched now, and tells whether that changed: then
// something may have happened before the watch was there.
func (w *watcher) sync() (changed bool, err error) {
	wanted := make(map[string]inode)
	seen := make(map[inode]bool)
	for _, path := range watchedDirs(w.dir) {
		if id, ok := inodeOf(path); ok && !seen[id] {
			wanted[path], seen[id] = id, true
		}
	}
	for path, id := range w.watched {
		if wanted[path] != id {
			// The kernel has dropped the watch already if the folder is gone.
			_ = w.inotify.Remove(path)
			delete(w.watched, path)
		}
	}
	for path, id := range wanted {
		if w.watched[path] == id {
			continue
		}
		if addErr := w.inotify.Add(path); addErr != nil {
			err = fmt.Errorf("watching %s: %w", path, addErr)
			continue
		}
		w.watched[path] = id
		changed = true
	}
	return changed, err
}

// watchedDirs is the folder, the nearest one above it that exists (where it is
// created, or replaced), and the folders that links in it lead to.
func watchedDirs(dir string) []string {
	dirs := []string{dir}
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		if _, ok := inodeOf(up); ok || up == filepath.Dir(up) {
			dirs = append(dirs, up)
			break
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dirs
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name())); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	return dirs
}

// inodeOf finds a folder's inode, through symbolic links.
func inodeOf(path string) (inode, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return inode{}, false
	}
	return inode{st.Dev, st.Ino}, true
}
