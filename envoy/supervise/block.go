// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// blockLock is the name, in the folder of the node's sockets, of the file that who has a
// block of ports holds.
const blockLock = "envoy-block-%d.lock"

// blockFile is the name, in Envoy's own folder, of the file with the block that it had
// last: by that the kernel knows its group, also while the agent is away.
const blockFile = "envoy.block"

// blockBefore is the block that an Envoy of this folder had, or else the first.
func (s *Supervisor) blockBefore() uint8 {
	text, err := os.ReadFile(s.cfg.file(blockFile))
	if err == nil && len(text) == 1 && text[0]-'0' < model.ProxyBlocks {
		return text[0] - '0'
	}
	return 0
}

// takeBlock takes the first block of ports that nobody has, from one on, until the file is
// closed or the process ends. As long as all are taken it waits for one.
func takeBlock(ctx context.Context, runDir string, from uint8, log *slog.Logger) (uint8, *os.File, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for waited := false; ; waited = true {
		for i := range uint8(model.ProxyBlocks) {
			block := (from + i) % model.ProxyBlocks
			f, err := lockBlock(runDir, block)
			if f != nil || err != nil {
				return block, f, err
			}
		}
		if !waited {
			log.Info("waiting for a block of ports: two Envoys have them")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, nil, context.Cause(ctx)
		}
	}
}

// lockBlock gives no file if another process has the block.
func lockBlock(runDir string, block uint8) (*os.File, error) {
	path := filepath.Join(runDir, fmt.Sprintf(blockLock, block))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of a block of ports: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close() // nothing was written
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}

// RemoveBlocks takes the locks of blocks away, where no Envoy is left.
func RemoveBlocks(runDir string) error {
	var errs []error
	for block := range model.ProxyBlocks {
		err := os.Remove(filepath.Join(runDir, fmt.Sprintf(blockLock, block)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing the lock of a block of ports: %w", err))
		}
	}
	return errors.Join(errs...)
}
