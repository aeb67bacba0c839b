// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// keepEvery is when to look although nothing was heard: a folder may have been
	// replaced, and the watch with it.
	keepEvery = 30 * time.Second
	// keepApart is the time between two looks, whatever goes on in the folders. An
	// opponent that also restores its files does not keep a core busy.
	keepApart = 200 * time.Millisecond
)

// KeeperConfig is what a Keeper is made of.
type KeeperConfig struct {
	Config
	// Ready returns when an ADD can be served. The configuration is installed then,
	// as a node with one counts as ready for pods.
	Ready func(context.Context) error
	Log   *slog.Logger
}

// Keeper installs the plugin and its configuration and restores them when they are
// changed or removed. It never removes them: that is Remove's, when Weft leaves
// the node. Files of other plugins it only reports.
type Keeper struct {
	cfg KeeperConfig

	mu        sync.Mutex
	installed bool
	faults    []string
	seen      map[string]fs.FileInfo // of files that were right when last looked at
}

// NewKeeper makes a Keeper; Run does the work.
func NewKeeper(cfg KeeperConfig) *Keeper {
	cfg.Config = cfg.withDefaults()
	return &Keeper{cfg: cfg, seen: make(map[string]fs.FileInfo)}
}

// Installed tells whether the configuration has been installed, and what is wrong.
func (k *Keeper) Installed() (path string, installed bool, faults []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cfg.confList(), k.installed, k.faults
}

// Run installs the plugin, waits until an ADD can be served, installs the
// configuration, and keeps both until ctx ends. What cannot be written it reports
// and tries again.
func (k *Keeper) Run(ctx context.Context) error {
	k.look(false)
	if err := k.cfg.Ready(ctx); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		k.cfg.Log.Warn("changes of the CNI files are only seen every so often", "every", keepEvery, "error", err)
		watcher = &fsnotify.Watcher{} // hears nothing
	} else {
		defer watcher.Close()
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		if err == nil {
			k.watch(watcher) // before the look: what happens in between is heard
		}
		k.look(true)
		if !pause(ctx, keepApart) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-watcher.Events:
			drain(watcher.Events)
		case err := <-watcher.Errors:
			k.cfg.Log.Warn("changes of the CNI files may have been missed, looking again", "error", err)
		}
	}
}

// watch watches both folders; Add does nothing if it is so, and takes up a folder
// that was made anew. One that is missing is made by the look that follows.
func (k *Keeper) watch(w *fsnotify.Watcher) {
	for _, dir := range []string{k.cfg.BinDir, k.cfg.ConfDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue // the look reports it
		}
		if err := w.Add(dir); err != nil {
			k.cfg.Log.Warn("changes of a folder are only seen every so often", "folder", dir, "every", keepEvery, "error", err)
		}
	}
}

// look installs what is not as it should be.
func (k *Keeper) look(ready bool) {
	var faults []string
	err := k.ensurePlugin()
	if err == nil && ready {
		err = k.ensureConfList()
	}
	if err != nil {
		faults = append(faults, err.Error())
	}
	faults = append(faults, k.before()...)

	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(k.faults, f) {
			k.cfg.Log.Warn("fault of the CNI files", "fault", f)
		}
	}
	k.faults = faults
	k.installed = ready && err == nil
}

func (k *Keeper) ensurePlugin() error {
	return k.ensure(k.cfg.plugin(), pluginMode, func() ([]byte, error) {
		content, err := os.ReadFile(k.cfg.Binary)
		if err != nil {
			return nil, fmt.Errorf("reading the CNI plugin: %w", err)
		}
		return content, nil
	}, installPlugin)
}

func (k *Keeper) ensureConfList() error {
	return k.ensure(k.cfg.confList(), confListMode, func() ([]byte, error) { return ConfList(k.cfg.Config) }, installConfList)
}

// ensure writes a file that does not hold what it should. A file that was right and
// is untouched since, by its inode, size and time, is not read again.
func (k *Keeper) ensure(path string, mode fs.FileMode, want func() ([]byte, error), write func(Config) error) error {
	st, err := os.Lstat(path)
	if err == nil && untouched(k.seen[path], st) {
		return nil
	}
	content, wantErr := want()
	if wantErr != nil {
		return wantErr
	}
	if err == nil && st.Mode() == mode {
		if has, err := os.ReadFile(path); err == nil && bytes.Equal(has, content) {
			k.seen[path] = st
			return nil
		}
	}
	if err := write(k.cfg.Config); err != nil {
		return err
	}
	// It counts as right when it has been read: another may be at it already.
	k.cfg.Log.Info("CNI file written", "path", path, "restored", k.seen[path] != nil)
	return nil
}

func untouched(was, is fs.FileInfo) bool {
	return was != nil && os.SameFile(was, is) && was.Size() == is.Size() &&
		was.ModTime().Equal(is.ModTime()) && was.Mode() == is.Mode()
}

// before lists the configurations of others that a runtime takes before ours.
func (k *Keeper) before() (faults []string) {
	entries, err := os.ReadDir(k.cfg.ConfDir)
	if err != nil && !os.IsNotExist(err) {
		return []string{fmt.Sprintf("looking for other CNI configurations: %v", err)}
	}
	for _, e := range entries { // sorted, as runtimes sort them
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
		default:
			continue
		}
		if e.Name() < ConfListName && !e.IsDir() {
			faults = append(faults, fmt.Sprintf("%s comes before %s, so the container runtime takes it and Weft gets no pods: remove it, or give it a later name",
				filepath.Join(k.cfg.ConfDir, e.Name()), ConfListName))
		}
	}
	return faults
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// drain forgets events that are waiting: one look answers all of them.
func drain(events <-chan fsnotify.Event) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}
