// SPDX-License-Identifier: Apache-2.0

// Package supervise keeps the node's Envoy running, apart from the agent: Envoy goes
// on whatever becomes of the agent, and of the supervisor. Another binary, or another
// bootstrap, takes over the listening sockets from the process that runs (hot
// restart), so that no connection is refused meanwhile.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

// Config says what is run, and how.
type Config struct {
	Binary      string // of Envoy
	Bootstrap   bootstrap.Config
	Cgroup      string // folder on cgroup2 for Envoy, made if it is missing; empty: the supervisor's
	Concurrency int    // threads that serve
	// Drain is how long the process before may go on with connections that it has
	// when another takes over, and how long connections may take to end when all ends.
	Drain time.Duration
}

const (
	defaultHeap        = 512 << 20
	defaultConnections = 50_000
	defaultDrain       = 30 * time.Second
)

// MaxThreads is how many listening sockets of a ruleset the kernel programs tell apart.
const MaxThreads = 4

// Default is what a node's Envoy may take, unless something else is said.
func Default() Config {
	return Config{
		Concurrency: min(runtime.NumCPU(), MaxThreads), Drain: defaultDrain,
		Bootstrap: bootstrap.Config{MaxHeapBytes: defaultHeap, MaxConnections: defaultConnections},
	}
}

// inPod tells whether Envoy runs in a pod, which weft-envoy is the first process of and
// outside of which nothing of it stays. Two may be side by side on a node.
func (c Config) inPod() bool { return c.Bootstrap.Proxy.Pod != "" }

// Names of files in Envoy's own folder.
const (
	bootstrapFile = "envoy.json"
	baseFile      = "envoy.base"
	restartSocket = "envoy-restart"
	logFile       = "envoy.log"
)

const (
	look         = time.Second // between looks at the binary and at the processes
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
	settled      = 10 * time.Second // a process that lived so long has not failed to start
	ending       = 5 * time.Second  // for processes that were asked to end
)

// ErrLeave asks Run, as the cause of its context's end, to end without Envoy, which
// another supervisor takes over.
var ErrLeave = errors.New("leaving Envoy to another supervisor")

// Supervisor runs Envoy. All its state belongs to Run.
type Supervisor struct {
	cfg      Config
	log      *slog.Logger
	reload   <-chan struct{}
	admin    admin
	output   *os.File
	children map[int]*child // by epoch: the one that serves, and the one before that ends
	newest   int            // epoch of the process that was started last, or -1
	live     bool           // the newest serves
	runs     string         // describes what runs, or is about to
	backoff  time.Duration
	exits    chan exit
	standIn  standIn
	failures int // processes in a row that did not stay
	overload overload
	told     int // looks in a row that found that Envoy was told everything by the agent
}

// New makes a supervisor; reload asks it for a hot restart.
func New(cfg Config, reload <-chan struct{}, log *slog.Logger) *Supervisor {
	return &Supervisor{cfg: cfg, log: log, reload: reload, admin: newAdmin(cfg.file(bootstrap.AdminSocket)),
		children: make(map[int]*child), newest: -1, exits: make(chan exit, 8),
		standIn: standIn{cfg: cfg, log: log}}
}

// file of this Envoy's own, and shared with the agent and with others.
func (c Config) file(name string) string   { return filepath.Join(c.Bootstrap.OwnDir(), name) }
func (c Config) shared(name string) string { return filepath.Join(c.Bootstrap.RunDir, name) }

// Run keeps Envoy running until ctx ends, and ends it then unless the cause is
// ErrLeave. Only one supervisor runs for a folder.
func (s *Supervisor) Run(ctx context.Context) error {
	lock, err := acquire(s.cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.cfg.inPod() {
		block, err := s.enterPod(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		defer block.Close()
	} else {
		if s.output, err = openLog(s.cfg.file(logFile)); err != nil {
			return err
		}
		defer s.output.Close()
	}
	defer s.standIn.stop()
	s.noTrouble()
	s.standInNow(ctx)
	if err := s.adopt(ctx); err != nil {
		return err
	}
	if s.newest < 0 || s.outdated() {
		if err := s.start(); err != nil {
			return err
		}
	}
	err = s.watch(ctx)
	if errors.Is(context.Cause(ctx), ErrLeave) {
		return nil
	}
	s.end()
	return err
}

// enterPod takes what an Envoy in a pod has: a block of ports, until the file is closed,
// and the output of the container.
func (s *Supervisor) enterPod(ctx context.Context) (*os.File, error) {
	if err := s.forget(); err != nil {
		return nil, err
	}
	block, file, err := takeBlock(ctx, s.cfg.Bootstrap.RunDir, s.blockBefore(), s.log)
	if err != nil {
		return nil, err
	}
	if err := writeFile(s.cfg.file(blockFile), []byte{'0' + block}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s.cfg.Bootstrap.Proxy.Block, s.cfg.Bootstrap.Proxy.Started = block, time.Now().UnixNano()
	s.output = os.Stderr
	s.log.Info("a block of ports is this Envoy's", "block", block)
	return file, nil
}

// watch restarts what ended, and replaces what is outdated.
func (s *Supervisor) watch(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var again <-chan time.Time // when to start after a failure
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.exits:
			if s.ended(e) {
				again = time.After(s.nextBackoff(e.lived))
			}
		case <-again:
			again = nil
			if err := s.start(); err != nil {
				s.log.Error("starting Envoy failed", "error", err)
				s.failed("it could not be started: " + err.Error())
				again = time.After(s.nextBackoff(0))
			}
		case <-s.reload:
			if again == nil {
				again = s.replace("asked to")
			}
		case <-tick.C:
			if !s.cfg.inPod() {
				trimLog(s.output)
			}
			s.look(ctx)
			if again == nil {
				s.stays()
			}
			if again == nil && s.relieve(ctx) {
				again = s.replace("its memory is used up")
			}
			s.note(ctx)
			s.standInNow(ctx)
			if again == nil && s.outdated() {
				again = s.replace("another binary")
			}
		}
	}
}

// replace starts a process beside the one that runs. While the one before that is
// still there it has to wait: Envoy knows two generations.
func (s *Supervisor) replace(why string) <-chan time.Time {
	if len(s.children) > 1 {
		return time.After(look)
	}
	s.log.Info("replacing Envoy", "reason", why)
	if err := s.start(); err != nil {
		s.log.Error("starting Envoy failed", "error", err)
		return time.After(s.nextBackoff(0))
	}
	return nil
}

// look finds out whether the newest serves.
func (s *Supervisor) look(ctx context.Context) {
	if _, runs := s.children[s.newest]; runs && !s.live {
		epoch, answers := s.admin.epoch(ctx)
		s.live = answers && epoch == s.newest
	}
}

func (s *Supervisor) standInNow(ctx context.Context) {
	if err := s.standIn.look(ctx); err != nil {
		s.log.Error("an Envoy that starts now would have no rulesets", "error", err)
	}
}

// ended notes the end of a process and tells whether another is needed. If the newest
// had not taken over yet, the one before serves on, and hands over to the next. If it
// had, the one before only waits for its end, and all begins anew.
func (s *Supervisor) ended(e exit) bool {
	if s.children[e.epoch] != e.child {
		return false // one that was not worth adopting
	}
	delete(s.children, e.epoch)
	if e.epoch != s.newest {
		s.log.Info("an Envoy that was replaced has ended", "epoch", e.epoch)
		return false
	}
	s.log.Warn("Envoy has ended", "epoch", e.epoch, "after", e.lived.String(), "log", s.output.Name())
	if e.lived >= settled {
		s.failures = 0
	}
	s.failed(fmt.Sprintf("it ended, the last time after %s", e.lived.Round(time.Millisecond)))
	before, runs := s.children[e.epoch-1]
	if !s.live && runs {
		s.newest--
		return true
	}
	if runs {
		before.kill()
	}
	s.newest = -1
	return true
}

func (s *Supervisor) nextBackoff(lived time.Duration) time.Duration {
	if lived >= settled || s.backoff == 0 {
		s.backoff = firstBackoff
		return s.backoff
	}
	s.backoff = min(2*s.backoff, lastBackoff)
	return s.backoff
}

// outdated tells whether Envoy would run in another way if it were started now.
func (s *Supervisor) outdated() bool {
	now, err := describe(s.cfg)
	return err == nil && now != s.runs
}

// end lets connections end, then the processes. Who needs a stand-in finds another one.
func (s *Supervisor) end() {
	s.standIn.stop()
	if s.cfg.inPod() {
		if err := leave(context.Background(), s.cfg); err != nil {
			s.log.Warn("new connections may come until Envoy ends", "error", err)
		}
	}
	s.admin.drain(s.cfg.Drain)
	for _, c := range s.children {
		c.terminate()
	}
	deadline := time.After(ending)
	for len(s.children) > 0 {
		select {
		case e := <-s.exits:
			if s.children[e.epoch] == e.child {
				delete(s.children, e.epoch)
			}
		case <-deadline:
			for _, c := range s.children {
				c.kill()
			}
			deadline = nil
		}
	}
	s.log.Info("Envoy has ended, as it was asked to")
}

func (s *Supervisor) start() error {
	var err error
	if s.runs, err = describe(s.cfg); err != nil {
		return err
	}
	text, err := bootstrap.Build(s.cfg.Bootstrap)
	if err != nil {
		return err
	}
	if err := writeFile(s.cfg.file(bootstrapFile), text); err != nil {
		return err
	}
	c, err := startChild(s.cfg, s.newest+1, s.output)
	if err != nil {
		return err
	}
	s.newest, s.live = c.epoch, false
	s.children[c.epoch] = c
	if err := s.remember(c); err != nil {
		s.log.Error("the next supervisor will not know this Envoy", "error", err)
	}
	s.log.Info("Envoy started", "epoch", c.epoch, "pid", c.pid)
	go func() { s.exits <- c.end() }() // until the process ends, which Run waits for
	return nil
}
