// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// mountedData is the link by which kubelet puts the files of a ConfigMap in place, all
// at once.
const mountedData = "..data"

// Reread calls read whenever a configuration is to be read again, until ctx ends: on HUP,
// and when the ConfigMap that its file comes from has changed. An edit of a plain file waits for HUP,
// as it may be half done.
func Reread(ctx context.Context, path string, log *slog.Logger, read func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var events chan fsnotify.Event // nil: only HUP
	if watcher, err := watchMount(filepath.Dir(path)); err != nil {
		log.Warn("changes of the mounted configuration are not seen; HUP has it read again", "error", err)
	} else if watcher != nil {
		defer watcher.Close()
		events = watcher.Events
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			read()
		case e, open := <-events:
			switch {
			case !open:
				events = nil
			case filepath.Base(e.Name) == mountedData && e.Has(fsnotify.Create):
				read()
			}
		}
	}
}

// watchMount watches the folder of a ConfigMap; nil for another one.
func watchMount(dir string) (*fsnotify.Watcher, error) {
	if _, err := os.Lstat(filepath.Join(dir, mountedData)); err != nil {
		return nil, nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(dir); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}
