// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/reconcile"
)

// unfinished is a kernel in which attaching was put off for some devices.
type unfinished struct {
	reconcile.Datapath
	left int
	err  error
}

func (u *unfinished) FinishAttach() (int, error) {
	if u.err != nil {
		return u.left, u.err
	}
	u.left--
	return u.left, nil
}

func TestAttachingIsFinishedWhenNothingElseIsToBeDone(t *testing.T) {
	dp := &unfinished{left: 5}
	f := newFinisher(Config{Log: slog.New(slog.DiscardHandler), Datapath: dp})
	defer f.timer.Stop()

	busy := make(chan struct{})
	close(busy)
	if f.run(busy); dp.left != 4 || f.armed {
		t.Errorf("while intent changes, %d are left, armed %v", dp.left, f.armed)
	}
	if f.arm(); !f.armed || !f.timer.Stop() {
		t.Error("after a change, its time does not come")
	}
	dp.err = errors.New("no")
	if f.run(make(chan struct{})); dp.left != 4 || !f.armed {
		t.Errorf("after a failure %d are left, armed %v", dp.left, f.armed)
	}
	dp.err = nil
	if f.run(make(chan struct{})); dp.left != 0 || f.armed {
		t.Errorf("at last %d are left, armed %v", dp.left, f.armed)
	}
	if f.arm(); !f.timer.Reset(time.Hour) {
		t.Error("its time is not set")
	}
}
