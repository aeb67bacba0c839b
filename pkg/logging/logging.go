// SPDX-License-Identifier: Apache-2.0

// Package logging makes the loggers of Weft's programs: text for a reader at a
// terminal, JSON for everything else, one line an event.
package logging

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// New makes a logger that writes events of at least the given level; a change
// of the level takes effect at once.
func New(level *slog.LevelVar, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
