// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// However long the API server was away, what happened meanwhile is told a few seconds
// after it is back; and it is not asked all the time.
func TestWhatHappenedInAnOutageIsToldSoonAfterIt(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			back, asked, told := time.Now().Add(outage), 0, time.Time{}
			err := follow(ctx, slog.New(slog.DiscardHandler), func() <-chan struct{} { return nil }, func() (time.Duration, error) {
				asked++
				if time.Now().Before(back) {
					return 0, errors.New("no route to host")
				}
				told = time.Now()
				cancel()
				return checkEvery, nil
			})
			if late := told.Sub(back); err != nil || late > lastRetry {
				t.Errorf("after %v it is told %v late: %v", outage, late, err)
			}
			if most := 7 + int(outage/lastRetry); asked > most {
				t.Errorf("in %v it is asked %d times, want at most %d", outage, asked, most)
			}
		})
	}
}
