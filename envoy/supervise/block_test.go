// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"log/slog"
	"os"
	"testing"
)

func TestEachHasABlockOfItsOwn(t *testing.T) {
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	take := func(want uint8) *os.File {
		t.Helper()
		block, f, err := takeBlock(t.Context(), dir, 0, quiet)
		if err != nil || block != want {
			t.Fatalf("block %d, %v; want %d", block, err, want)
		}
		return f
	}
	first, second := take(0), take(1)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if block, _, err := takeBlock(ctx, dir, 0, quiet); err == nil {
		t.Errorf("a third one has block %d", block)
	}
	freed := make(chan error, 1)
	go func() { freed <- first.Close() }() // while the next one waits
	third := take(0)
	if err := <-freed; err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	again, f, err := takeBlock(t.Context(), dir, 1, quiet)
	if err != nil || again != 1 {
		t.Fatalf("who had block 1 has block %d, %v", again, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := RemoveBlocks(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
