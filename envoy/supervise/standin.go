// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/xds"
)

// standIn serves what was in force last while the agent is away, so that an Envoy
// that starts then has its rulesets. As soon as the agent is back it is silent, and
// Envoy goes to the agent.
type standIn struct {
	cfg Config
	log *slog.Logger
	srv *grpc.Server // nil while the agent is there
}

// look serves or stops, as the agent is there or not.
func (s *standIn) look(ctx context.Context) error {
	away := !answers(ctx, s.cfg.file(bootstrap.ADSSocket))
	switch {
	case away && s.srv == nil:
		return s.serve()
	case !away:
		s.stop()
	}
	return nil
}

func answers(ctx context.Context, path string) bool {
	ctx, stop := context.WithTimeout(ctx, look)
	defer stop()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}

func (s *standIn) serve() error {
	last := server.New(xds.Options{}, s.cfg.file(server.SnapshotFile), s.log)
	if err := last.Restore(); errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever in force
	} else if err != nil {
		return err
	}
	path := s.cfg.file(bootstrap.StandInSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("standing in for the agent: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("guarding %s: %w", path, err)
	}
	s.srv = grpc.NewServer()
	last.Register(s.srv)
	srv := s.srv
	go func() { _ = srv.Serve(l) }() // until stop
	s.log.Info("the agent is away: what was in force last stands")
	return nil
}

func (s *standIn) stop() {
	if s.srv == nil {
		return
	}
	s.srv.Stop()
	s.srv = nil
	s.log.Info("the agent is back")
}
