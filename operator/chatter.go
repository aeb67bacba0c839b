// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
)

// afterStop is how the manager speaks of giving up the Lease when it was asked to
// end: no error.
const afterStop = "error received after stop sequence was engaged"

// chatter is for the libraries' logs: what they tell of themselves is for those who
// look for faults in them, what goes wrong is for all.
type chatter struct{ slog.Handler }

// Enabled implements slog.Handler.
func (c chatter) Enabled(ctx context.Context, l slog.Level) bool {
	return c.Handler.Enabled(ctx, level(l))
}

// Handle implements slog.Handler.
func (c chatter) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == afterStop {
		r.Level = slog.LevelInfo
	}
	r.Level = level(r.Level)
	if !c.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

func level(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}

// WithAttrs implements slog.Handler.
func (c chatter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return chatter{c.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (c chatter) WithGroup(name string) slog.Handler { return chatter{c.Handler.WithGroup(name)} }
