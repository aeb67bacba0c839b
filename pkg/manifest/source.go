// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times that the source keeps unless a Config says otherwise.
const (
	// DefaultQuiet is how long a file must not change before it is read.
	DefaultQuiet = 50 * time.Millisecond
	// DefaultRescan is the period of the scan that needs no event.
	DefaultRescan = 10 * time.Second

	gather     = 5 * time.Millisecond // events of one action come together
	retryApply = time.Second          // after an error of the consumer
	pollRescan = time.Second          // period where inotify is not to be had
)

// Config tells a Source what to read.
type Config struct {
	Dir    string        // the folder; it may be created later
	Copies string        // folder for the last good content of each file; empty: memory only
	Quiet  time.Duration // 0: DefaultQuiet
	Rescan time.Duration // 0: DefaultRescan
}

// Source reads a manifest folder as long as it runs.
type Source struct {
	cfg      Config
	log      *slog.Logger
	consumer Consumer

	scanner *scanner
	copies  *copies
	last    State // as last applied
	applied bool  // last is what the consumer has
	known   []Problem
}

// New makes a source; Run does the work.
func New(cfg Config, consumer Consumer, log *slog.Logger) *Source {
	if cfg.Quiet == 0 {
		cfg.Quiet = DefaultQuiet
	}
	if cfg.Rescan == 0 {
		cfg.Rescan = DefaultRescan
	}
	cfg.Dir = filepath.Clean(cfg.Dir)
	return &Source{cfg: cfg, log: log, consumer: consumer, scanner: newScanner(cfg.Dir, cfg.Quiet),
		copies: newCopies(cfg.Copies)}
}

// Run watches the folder until the context ends. It fails if the copies of a
// former run cannot be read: to go on would be to take policies back.
func (s *Source) Run(ctx context.Context) error {
	good, damaged, err := s.copies.load()
	if err != nil {
		return err
	}
	s.scanner.restore(good, damaged)
	w, err := newWatcher(s.cfg.Dir)
	if err != nil {
		s.log.Warn("manifest folder is polled", "error", err, "period", pollRescan,
			"remedy", "raise fs.inotify.max_user_instances")
		s.cfg.Rescan = min(s.cfg.Rescan, pollRescan)
		return s.loop(ctx, nil, nil, nil)
	}
	defer w.inotify.Close()
	return s.loop(ctx, w, w.inotify.Events, w.inotify.Errors)
}

func (s *Source) loop(ctx context.Context, w *watcher, events <-chan fsnotify.Event, faults <-chan error) error {
	wake := newAlarm()
	defer wake.stop()
	wake.in(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if w.relevant(e) {
				wake.in(gather)
			}
		case err := <-faults:
			s.log.Warn("manifest folder events were lost; it is scanned", "error", err)
			wake.in(0)
		case <-wake.c():
			wake.rang()
			s.round(w, wake)
			wake.in(s.cfg.Rescan)
		}
	}
}

// round does one scan and what follows from it.
func (s *Source) round(w *watcher, wake *alarm) {
	// Watch before the scan: what changes after the scan makes an event.
	if w != nil {
		if _, err := w.sync(); err != nil {
			s.log.Warn("part of the manifest folder is polled", "error", err,
				"remedy", "raise fs.inotify.max_user_watches")
		}
	}
	changed := s.scanner.scan(time.Now())
	if w != nil {
		if again, _ := w.sync(); again {
			wake.in(0)
		}
	}
	if len(s.scanner.waits) > 0 {
		wake.in(s.cfg.Quiet)
	}
	if (changed || !s.applied) && !s.apply() || s.keep() && !s.apply() {
		wake.in(retryApply)
	}
}

// keep brings the copies up to date with what is in force, and tells whether
// there is something new to report: a copy that cannot be written is a problem
// of its file. It is tried again in every round.
func (s *Source) keep() (news bool) {
	files := s.scanner.folder.files
	for name, e := range files {
		if e.kept || e.data == nil {
			continue
		}
		fault := ""
		if err := s.copies.keep(name, e.data); err != nil {
			fault = fmt.Sprintf("its content is in force, but would not outlast a restart with a fault in the file: "+
				"%v; make room in %s, or mend it", err, s.cfg.Copies)
		}
		e.kept = fault == ""
		news = news || fault != e.copyFault
		e.copyFault = fault
	}
	if err := s.copies.drop(func(name string) bool { return files[name] == nil }); err != nil {
		s.log.Warn("copies of manifests that are gone stay", "error", err)
	}
	return news
}

// apply hands the state on if it differs from the last.
func (s *Source) apply() bool {
	state := s.scanner.folder.state()
	if s.applied && reflect.DeepEqual(state, s.last) {
		return true
	}
	s.report(state.Problems)
	if err := s.consumer.Apply(state); err != nil {
		s.applied = false
		s.log.Error("manifest state was not taken", "error", err, "retry", retryApply)
		return false
	}
	s.last, s.applied = state, true
	s.log.Info("manifest state applied", "pods", len(state.Pods), "services", len(state.Services),
		"policies", len(state.Policies), "problems", len(state.Problems))
	return true
}

// report logs each problem once, when it appears.
func (s *Source) report(problems []Problem) {
	for _, p := range problems {
		switch {
		case slices.Contains(s.known, p):
		case p.Kept:
			s.log.Error("fault in a manifest; the file's last good content is in force", "problem", p.String())
		default:
			s.log.Error("fault in a manifest; nothing of the file is in force", "problem", p.String())
		}
	}
	if len(problems) == 0 && len(s.known) > 0 {
		s.log.Info("manifest problems are resolved")
	}
	s.known = problems
}
