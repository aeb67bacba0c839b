// SPDX-License-Identifier: Apache-2.0

package command

import (
	"container/heap"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// event is what the agent of a node sent.
type event struct {
	node string
	msg  *agentv1.ObserveFlowsResponse

	arrived time.Time
	shown   bool
}

func (e *event) time() time.Time { return e.msg.GetFlow().GetTime().AsTime() }

// window puts the flows of several nodes into the order of their times, as far as
// they arrive within span of each other. It holds none for longer, and no more than
// limit.
type window struct {
	span    time.Duration
	limit   int
	byTime  eventHeap
	arrived []*event // in the order of arrival, some shown already
	held    int
}

func (w *window) add(e *event, now time.Time) {
	e.arrived = now
	heap.Push(&w.byTime, e)
	w.arrived = append(w.arrived, e)
	w.held++
}

// due takes out what must be shown now: all that waited for span, and before each
// what has an earlier time.
func (w *window) due(now time.Time) []*event {
	var out []*event
	for w.skipShown(); len(w.arrived) > 0; w.skipShown() {
		oldest := w.arrived[0]
		if w.held <= w.limit && now.Before(oldest.arrived.Add(w.span)) {
			break
		}
		for !oldest.shown {
			e := heap.Pop(&w.byTime).(*event)
			e.shown = true
			w.held--
			out = append(out, e)
		}
	}
	return out
}

// skipShown forgets what is at the front and was shown out of turn.
func (w *window) skipShown() {
	for len(w.arrived) > 0 && w.arrived[0].shown {
		w.arrived[0] = nil
		w.arrived = w.arrived[1:]
	}
}

// wait is how long nothing is due; false: nothing is held.
func (w *window) wait(now time.Time) (time.Duration, bool) {
	w.skipShown()
	if len(w.arrived) == 0 {
		return 0, false
	}
	return max(0, w.arrived[0].arrived.Add(w.span).Sub(now)), true
}

type eventHeap []*event

func (h eventHeap) Len() int           { return len(h) }
func (h eventHeap) Less(i, j int) bool { return h[i].time().Before(h[j].time()) }
func (h eventHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(e any)        { *h = append(*h, e.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
