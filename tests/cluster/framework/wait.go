// SPDX-License-Identifier: Apache-2.0

package framework

import "time"

// Eventually looks until there is no error, for at most so long; it gives the time it took.
func (w *World) Eventually(atMost time.Duration, what string, look func() error) time.Duration {
	w.T.Helper()
	for begun := time.Now(); ; time.Sleep(w.options.Poll) {
		err := look()
		took := time.Since(begun)
		if err == nil {
			return took
		}
		if took > atMost || w.T.Context().Err() != nil {
			w.T.Fatalf("after %v not %s: %v", atMost, what, err)
		}
	}
}

// Holds looks again and again for so long: there must be no error.
func (w *World) Holds(period time.Duration, what string, look func() error) {
	w.T.Helper()
	for until := time.Now().Add(period); time.Now().Before(until); time.Sleep(w.options.Poll) {
		if err := look(); err != nil {
			w.T.Fatalf("no longer %s: %v", what, err)
		}
	}
}
