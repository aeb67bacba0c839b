// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// mountedData is the link by which kubelet puts the files of a ConfigMap in place, all
	// at once, to another folder each time.
	mountedData = "..data"
	// lookAtMount is the time between two looks at it. Kubelet takes up to two minutes;
	// inotify would gain nothing, and a node has few of its instances.
	lookAtMount = 5 * time.Second
)

// Reread calls read whenever a configuration is to be read again, until ctx ends: on HUP,
// and when the ConfigMap that its file comes from has changed. An edit of a plain file
// waits for HUP, as it may be half done.
func Reread(ctx context.Context, path string, read func()) { reread(ctx, path, lookAtMount, read) }

func reread(ctx context.Context, path string, every time.Duration, read func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for had := mounted(path); ; {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			read()
		case <-tick.C:
			if now := mounted(path); now != had {
				had = now
				read()
			}
		}
	}
}

// mounted is where the files of a ConfigMap are at present; empty for another file.
func mounted(path string) string {
	folder, err := os.Readlink(filepath.Join(filepath.Dir(path), mountedData))
	if err != nil {
		return ""
	}
	return folder
}
