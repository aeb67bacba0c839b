// SPDX-License-Identifier: Apache-2.0

package engine

import "time"

// Times of a finisher.
const (
	finishAfter = time.Second // pods that come together must not wait for each other
	finishAgain = time.Minute // after a failure: the programs run where they are
)

// finisher has programs come to where they are to stay, when nothing else is to be
// done.
type finisher struct {
	timer *time.Timer
	cfg   Config
	armed bool
}

func newFinisher(cfg Config) *finisher {
	return &finisher{timer: time.NewTimer(finishAfter), cfg: cfg, armed: true}
}

// arm lets it run after a while, however often it is called meanwhile.
func (f *finisher) arm() { f.armAfter(finishAfter) }

func (f *finisher) armAfter(d time.Duration) {
	if !f.armed {
		f.armed = true
		f.timer.Reset(d)
	}
}

// run goes on until nothing is left, or intent has changed.
func (f *finisher) run(changed <-chan struct{}) {
	f.armed = false
	for {
		left, err := f.cfg.Datapath.FinishAttach()
		if err != nil {
			f.cfg.Log.Warn("programs stay where they were put first, trying again", "error", err)
			f.armAfter(finishAgain)
			return
		}
		if left == 0 {
			return
		}
		select {
		case <-changed: // what is left is done after it
			return
		default:
		}
	}
}
