// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// overloadLook is how often Envoy is asked whether it refuses requests for want of memory.
const overloadLook = 5 * time.Second

// overload is since when Envoy refuses all requests, as its memory is used up.
type overload struct {
	asked, since time.Time
}

// relieve tells whether another Envoy should take over, as this one has refused requests for
// twice the time that connections have to end in: what it keeps of what expressions have
// matched, for one, it never gives back.
func (s *Supervisor) relieve(ctx context.Context) bool {
	o := &s.overload
	if !s.live || time.Since(o.asked) < overloadLook {
		return false
	}
	o.asked = time.Now()
	over, err := s.admin.overloaded(ctx)
	switch {
	case err != nil: // another look sees to an Envoy that does not answer
		return false
	case !over:
		if !o.since.IsZero() {
			o.since = time.Time{}
			s.noTrouble()
		}
		return false
	case o.since.IsZero():
		o.since = o.asked
	}
	lasts := o.asked.Sub(o.since)
	s.trouble(fmt.Sprintf("its memory of %d MB is used up, so it has refused requests for %s", s.cfg.Bootstrap.MaxHeapBytes>>20, lasts.Round(time.Second)))
	if lasts < 2*s.cfg.Drain {
		return false
	}
	o.since = time.Time{}
	s.noTrouble() // the other one begins with none
	return true
}

// overloaded tells whether Envoy refuses requests for want of memory.
func (a admin) overloaded(ctx context.Context) (bool, error) {
	text, err := a.call(ctx, http.MethodGet, `/stats?filter=^overload\.envoy\.overload_actions\.stop_accepting_requests\.active$`)
	if err != nil {
		return false, err
	}
	_, value, found := strings.Cut(string(text), ":")
	return found && strings.TrimSpace(value) != "0", nil
}
