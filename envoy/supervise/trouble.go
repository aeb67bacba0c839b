// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// troubleFile is there while Envoy does not stay, and says so in words.
const troubleFile = "envoy.trouble"

// patience is how many processes in a row may end early before that is trouble: one that is
// killed comes back, and is none.
const patience = 3

// failed counts a process that ended early, or could not be started.
func (s *Supervisor) failed(what string) {
	if s.failures++; s.failures < patience {
		return
	}
	text := fmt.Sprintf("%d times in a row %s; why, its log may tell: %s", s.failures, what, s.output.Name())
	if err := writeFile(s.cfg.file(troubleFile), []byte(text)); err != nil {
		s.log.Error("that Envoy does not stay cannot be noted", "error", err)
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
		s.log.Error("that Envoy stays cannot be noted", "error", err)
	}
}

// Trouble is an error while the Envoy of a configuration ends again and again.
func Trouble(cfg Config) error {
	text, err := os.ReadFile(cfg.file(troubleFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether Envoy stays: %w", err)
	}
	return errors.New(string(text))
}
