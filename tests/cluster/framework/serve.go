// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"time"
)

// Serve runs a command on a machine that is no node until the test has ended, and waits
// until another one, which asks it, succeeds.
func (w *World) Serve(atMost time.Duration, machine func(ctx context.Context, command string) (string, error), command, ask string) {
	w.T.Helper()
	pid, err := machine(w.T.Context(), command+" </dev/null >/dev/null 2>&1 & echo -n $!")
	if err != nil {
		w.T.Fatalf("%s: %v: %s", command, err, pid)
	}
	w.Finally(func(ctx context.Context) error { return Said(machine(ctx, "kill "+pid)) })
	w.Eventually(atMost, "answered: "+command, func() error { return Said(machine(w.T.Context(), ask)) })
}
