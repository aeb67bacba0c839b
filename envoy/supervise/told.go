// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
)

// toldFile is there once the agent itself has told Envoy all, since weft-envoy began. The
// kernel knows the group of the pod from then on, which no stand-in can see to.
const toldFile = "envoy.told"

// ErrNotTold: an Envoy must not replace another one yet.
var ErrNotTold = errors.New("the agent has not told Envoy everything yet")

// Health tells why the Envoy of a folder is not fit to take the place of another; nil:
// it is.
func Health(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, toldFile)); errors.Is(err, os.ErrNotExist) {
		return ErrNotTold
	} else if err != nil {
		return fmt.Errorf("looking for what Envoy was told: %w", err)
	}
	return newAdmin(filepath.Join(dir, bootstrap.AdminSocket)).live(ctx)
}

// forget is called before anything is told.
func (s *Supervisor) forget() error {
	if err := os.Remove(s.cfg.file(toldFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting what an Envoy before was told: %w", err)
	}
	return nil
}

// note writes down that Envoy was told everything. Twice in a row it has to look so: of
// listeners that are refused together each is sent again alone.
func (s *Supervisor) note(ctx context.Context) {
	if !s.cfg.inPod() || s.told == enough || !s.live {
		return
	}
	if told, err := s.admin.told(ctx); err != nil || !told {
		s.told = 0
		return
	}
	if s.told++; s.told < enough {
		return
	}
	if err := writeFile(s.cfg.file(toldFile), nil); err != nil {
		s.log.Error("that Envoy was told everything cannot be noted", "error", err)
		s.told = 0
		return
	}
	s.log.Info("Envoy has been told everything by the agent")
}

// enough is how many looks in a row must find that Envoy was told everything.
const enough = 2

// live tells why Envoy does not serve.
func (a admin) live(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodGet, "/ready")
	return err
}

// told tells whether all listeners came from the agent, and listen.
func (a admin) told(ctx context.Context) (bool, error) {
	if err := a.live(ctx); err != nil {
		return false, nil //nolint:nilerr // it has just begun
	}
	text, err := a.call(ctx, http.MethodGet, "/stats?filter=^(control_plane.identifier|listener_manager.total_listeners_warming|listener_manager.lds.update_success)$")
	if err != nil {
		return false, err
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		values[name] = strings.Trim(strings.TrimSpace(value), `"`)
	}
	taken := values["listener_manager.lds.update_success"]
	return values["control_plane.identifier"] == server.Agent && taken != "" && taken != "0" &&
		values["listener_manager.total_listeners_warming"] == "0", nil
}
