// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Counts is what the program traffic says of a target that it calls.
type Counts struct {
	Sent, Answered, Failed int
	PauseMS, SlowMS        int64
	Errors                 []string
}

// Lost is what did not come back.
func (c Counts) Lost() int { return c.Sent - c.Answered }

// Ask asks the program traffic in a pod, from its node, which may always reach its pods.
func (w *World) Ask(p *Pod, what string, into any) error {
	out, err := w.Node(p.Node).Run(w.T.Context(), fmt.Sprintf("%s ask http://%s:7001/%s", w.Program("traffic"), p.IPv4, what))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%s of %s: %w: %q", what, p.Name, err, out)
	}
	return nil
}

// Counts are those of a caller's targets; it is asked for its counts, or to stop.
func (w *World) Counts(caller *Pod, what string) (all map[string]Counts) {
	w.T.Helper()
	if err := w.Ask(caller, what, &all); err != nil {
		w.T.Fatal(err)
	}
	return all
}

// KeptOut tells by its name whether a target is one that may not be reached.
func KeptOut(target string) bool { return strings.HasPrefix(target, "shut") }

// Flowing waits until every target that may answer has done so so many times more.
func (w *World) Flowing(atMost time.Duration, caller *Pod, more int) {
	w.T.Helper()
	before := w.Counts(caller, "counts")
	w.Eventually(atMost, "every target answers "+caller.Name, func() error {
		for name, now := range w.Counts(caller, "counts") {
			if !KeptOut(name) && now.Answered < before[name].Answered+more {
				return fmt.Errorf("%s: %+v, before %+v", name, now, before[name])
			}
		}
		return nil
	})
}

// ServeOutside has the program traffic answer on the host outside, until the test has
// ended.
func (w *World) ServeOutside() {
	w.T.Helper()
	traffic := w.Program("traffic")
	w.Serve(10*time.Second, w.Outside, traffic+" serve", traffic+" ask http://127.0.0.1:7001/heard")
}
