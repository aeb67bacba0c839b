// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// TestAStallIsSeen: while one answer is late, others come due, and wait too.
func TestAStallIsSeen(t *testing.T) {
	const stall = 200 * time.Millisecond
	var asked atomic.Int32
	bad := errors.New("bad")
	l := Start(Config{Rate: 1000, Workers: 1, Ask: func(int) error {
		switch asked.Add(1) {
		case 3:
			<-time.After(stall) // the server is slow
		case 5:
			return bad
		}
		return nil
	}})
	for l.Report().Done < 100 {
		time.Sleep(time.Millisecond)
	}
	r := l.Stop()
	if r.Longest < stall || len(r.Failed) != 1 || !errors.Is(r.Failed[0].Err, bad) {
		t.Errorf("report %+v", r)
	}
	if got := int(asked.Load()); got != r.Done+1 {
		t.Errorf("asked %d times, answered %d", got, r.Done)
	}
}
