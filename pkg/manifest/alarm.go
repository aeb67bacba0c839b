// SPDX-License-Identifier: Apache-2.0

package manifest

import "time"

// alarm is a timer that the earliest of several wishes sets.
type alarm struct {
	timer *time.Timer
	due   time.Time // zero: not set
}

func newAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{timer: t}
}

func (a *alarm) c() <-chan time.Time { return a.timer.C }

// in wishes the alarm to ring after d; an earlier wish stands.
func (a *alarm) in(d time.Duration) {
	due := time.Now().Add(d)
	if a.due.IsZero() || due.Before(a.due) {
		a.due = due
		a.timer.Reset(d)
	}
}

// rang makes room for new wishes.
func (a *alarm) rang() { a.due = time.Time{} }

func (a *alarm) stop() { a.timer.Stop() }
