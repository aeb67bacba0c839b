// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
)

// standIn serves what was in force last at the agent's socket while the agent is
// away, so that an Envoy that starts then has its rulesets. An agent that starts
// puts its own socket there; the stand-in is silent then, and Envoy comes to the agent.
type standIn struct {
	cfg Config
	log *slog.Logger
	srv *grpc.Server // nil while the agent is there
	own uint64       // number of the socket's file
}

// look serves or stops, as the agent is there or not.
func (s *standIn) look(ctx context.Context) error {
	path := s.cfg.shared(bootstrap.ADSSocket)
	there := inode(path)
	if s.srv != nil {
		if there != s.own {
			s.stop()
		}
		return nil
	}
	if answers(ctx, path) {
		return nil
	}
	return s.serve(path, there)
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

// inode is the number of a file, 0 if it is not there.
func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// serve takes the place of a socket at which nobody listens.
func (s *standIn) serve(path string, dead uint64) error {
	last, err := server.NewStandIn(s.cfg.shared(server.SnapshotFile), s.log)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever in force
	} else if err != nil {
		return err
	}
	if dead != 0 && inode(path) == dead { // else an agent has just come
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the socket of an agent that is away: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("standing in for the agent: %w", err)
	}
	l.SetUnlinkOnClose(false) // what is there then is the agent's
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("guarding %s: %w", path, err)
	}
	s.own = inode(path)
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
	s.log.Info("standing in for the agent has ended")
}
