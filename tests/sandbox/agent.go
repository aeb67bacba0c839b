// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// BinDir is the folder with the built binaries: build/bin of the repository
// that holds the working folder.
func BinDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			bin := filepath.Join(dir, "build", "bin")
			if _, err := os.Stat(filepath.Join(bin, "weft-agent")); err != nil {
				return "", fmt.Errorf("no weft-agent in %s: run 'make build' first", bin)
			}
			return bin, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the repository: no go.mod above the working folder")
		}
		dir = parent
	}
}

// ErrNotReady is an agent that was not ready in time; the error around it holds
// the end of the agent's log.
var ErrNotReady = errors.New("agent not ready")

// AgentConfig says how the agent is started. Everything else is in its file.
type AgentConfig struct {
	Binary string // path of weft-agent
	Config string // path of its configuration
	Socket string // path of its API socket; empty: /run/weft/agent.sock
}

// Agent is the agent as a process in the node's namespaces.
type Agent struct {
	cmd  *exec.Cmd
	conn *grpc.ClientConn
	log  *Output
	done chan struct{}
	err  error // of the process, once done is closed
}

// StartAgent starts the process; Ready tells when it works.
func StartAgent(cfg AgentConfig) (*Agent, error) {
	if cfg.Socket == "" {
		cfg.Socket = "/run/weft/agent.sock"
	}
	a := &Agent{cmd: exec.Command(cfg.Binary, "--config", cfg.Config), log: &Output{}, done: make(chan struct{})}
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the agent: %w", err)
	}
	go func() { // ends with the process, at the latest with the sandbox
		a.err = a.cmd.Wait()
		close(a.done)
	}()
	conn, err := grpc.NewClient("unix://"+cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))
	if err != nil {
		_ = a.Kill()
		return nil, fmt.Errorf("connecting to the agent: %w", err)
	}
	a.conn = conn
	return a, nil
}

// API is the agent's service.
func (a *Agent) API() agentv1.AgentServiceClient { return agentv1.NewAgentServiceClient(a.conn) }

// PID is the agent's process.
func (a *Agent) PID() int { return a.cmd.Process.Pid }

// Done is closed when the process has ended.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Log is what the agent has written so far.
func (a *Agent) Log() string { return a.log.String() }

// Ready waits until the agent answers, is healthy and has all intent in the
// kernel; the error holds the end of its log.
func (a *Agent) Ready(ctx context.Context, within time.Duration) (*agentv1.GetStatusResponse, error) {
	var status *agentv1.GetStatusResponse
	err := Eventually(ctx, within, "agent ready", func() error {
		select {
		case <-a.done:
			return fmt.Errorf("it ended: %w", errors.Join(errors.New("process gone"), a.err))
		default:
		}
		ask, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		s, err := a.API().GetStatus(ask, &agentv1.GetStatusRequest{WaitRealized: true})
		if err != nil {
			return err
		}
		if s.GetHealth() != agentv1.Health_HEALTH_OK {
			return fmt.Errorf("health %v: %v", s.GetHealth(), s.GetComponents())
		}
		status = s
		return nil
	})
	if err != nil {
		a.tellWhereItStands()
		return nil, fmt.Errorf("%w: %w\nthe agent's log ends:\n%s", ErrNotReady, err, tail(a.Log(), 32<<10))
	}
	return status, nil
}

// tellWhereItStands ends an agent that does not come up, with the stacks of its
// goroutines in its log.
func (a *Agent) tellWhereItStands() {
	if a.cmd.Process.Signal(syscall.SIGQUIT) != nil {
		return // it has ended
	}
	select {
	case <-a.done:
	case <-time.After(5 * time.Second):
	}
}

// Hangup has it read its configuration again (SIGHUP).
func (a *Agent) Hangup() error { return a.cmd.Process.Signal(syscall.SIGHUP) }

// Kill ends it at once, as a crash would (SIGKILL), and waits for its end.
func (a *Agent) Kill() error { return a.end(syscall.SIGKILL) }

// Stop asks it to end (SIGTERM) and waits; one that has not ended after 20 s is
// killed, and that is an error.
func (a *Agent) Stop() error { return a.end(syscall.SIGTERM) }

func (a *Agent) end(sig syscall.Signal) error {
	if a.conn != nil {
		defer func() { _ = a.conn.Close() }()
	}
	if err := a.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the agent: %w", err)
	}
	select {
	case <-a.done:
		return nil
	case <-time.After(20 * time.Second):
		_ = a.cmd.Process.Kill()
		return fmt.Errorf("agent did not end within 20 s of %v", sig)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
