// SPDX-License-Identifier: Apache-2.0

package framework

import "time"

// Eventually looks until there is no error, for at most so long; it gives the time it took.
func (w *World) Eventually(atMost time.Duration, what string, look func() error) time.Duration {
	w.T.Helper()
	begun := time.Now()
	if err := w.Until(atMost, look); err != nil {
		w.T.Fatalf("after %v not %s: %v", atMost, what, err)
	}
	return time.Since(begun)
}

// Until looks until there is no error, or gives the last one after so long.
func (w *World) Until(atMost time.Duration, look func() error) error {
	for begun := time.Now(); ; time.Sleep(w.options.Poll) {
		err := look()
		if err == nil || time.Since(begun) > atMost || w.T.Context().Err() != nil {
			return err
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
