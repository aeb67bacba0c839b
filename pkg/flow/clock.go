// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock reads the wall clock and CLOCK_MONOTONIC at one moment.
type Clock func() (wall time.Time, monotonic time.Duration, err error)

// SystemClock is the machine's.
func SystemClock() (time.Time, time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return time.Now(), time.Duration(ts.Nano()), nil
}

// wallTime converts an event's time. The pair of clocks is read again for every
// batch, so that a step of the wall clock or a suspended machine shifts only what
// was under way.
func wallTime(event time.Duration, wall time.Time, monotonic time.Duration) time.Time {
	return wall.Add(event - monotonic).Round(0)
}
