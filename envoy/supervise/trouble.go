// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// troubleFile is there while Envoy does not stay, or refuses all, and says so in words.
const troubleFile = "envoy.trouble"

// patience is how many processes in a row may end early before that is trouble: one that is
// killed comes back, and is none.
const patience = 3

// failed counts a process that ended early, or could not be started.
func (s *Supervisor) failed(what string) {
	if s.failures++; s.failures < patience {
		return
	}
	s.trouble(fmt.Sprintf("%d times in a row %s; why, its log may tell: %s", s.failures, what, s.output.Name()))
}

// trouble notes what is wrong with Envoy, until noTrouble.
func (s *Supervisor) trouble(text string) {
	if err := writeFile(s.cfg.file(troubleFile), []byte(text)); err != nil {
		s.log.Error("what is wrong with Envoy cannot be noted", "error", err)
	}
}

// stays ends the trouble once a process has lived for long.
func (s *Supervisor) stays() {
	c, runs := s.children[s.newest]
	if s.failures == 0 || !runs || !s.live || time.Since(c.started) < settled {
		return
	}
	s.failures = 0
	s.noTrouble()
}

func (s *Supervisor) noTrouble() {
	if err := os.Remove(s.cfg.file(troubleFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("that nothing is wrong with Envoy any more cannot be noted", "error", err)
	}
}

// Trouble is an error while the Envoy of a configuration ends again and again, or refuses
// requests for want of memory.
func Trouble(cfg Config) error {
	text, err := os.ReadFile(cfg.file(troubleFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking what is wrong with Envoy: %w", err)
	}
	return errors.New(string(text))
}
