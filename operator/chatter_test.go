// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

func TestLibrariesTellAllOnlyWhatGoesWrong(t *testing.T) {
	var level slog.LevelVar
	var out bytes.Buffer
	log := logr.FromSlogHandler(chatter{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level})}).WithValues("a", 1).WithName("n")
	said := func(want ...string) {
		t.Helper()
		log.Info("starting workers")
		log.V(4).Info("details")
		log.Error(errors.New("away"), "cannot watch")
		log.Error(errors.New("leader election lost"), afterStop)
		if got := out.String(); strings.Count(got, "\n") != len(want) {
			t.Errorf("said:\n%s", got)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%q is not in:\n%s", w, out.String())
			}
		}
		out.Reset()
	}
	said(`level=ERROR msg="cannot watch"`)
	level.Set(slog.LevelDebug)
	said(`level=ERROR msg="cannot watch"`, `level=DEBUG msg="starting workers"`, `level=DEBUG msg=details`, `level=DEBUG msg="`+afterStop)
}
