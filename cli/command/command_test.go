// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// lossy is an agent whose stream lost flows.
type lossy struct{ agent }

func (l *lossy) ObserveFlows(_ *agentv1.ObserveFlowsRequest, stream grpc.ServerStreamingServer[agentv1.ObserveFlowsResponse]) error {
	return stream.Send(&agentv1.ObserveFlowsResponse{Response: &agentv1.ObserveFlowsResponse_Lost{Lost: 12}})
}

func TestTables(t *testing.T) {
	socket := serve(t, &agent{status: wellStatus()})
	for file, args := range map[string]string{
		"status.txt":         "status",
		"status.json":        "status -o json",
		"endpoints.txt":      "endpoint list",
		"endpoints.json":     "endpoint list --output json",
		"identities.txt":     "identity list",
		"policies.txt":       "policy list",
		"policy-entries.txt": "policy list --entries",
		"services.txt":       "service list",
		"service.txt":        "service describe demo/backend",
		"version.txt":        "version",
	} {
		got := run(t, socket, strings.Fields(args)...)
		if got.code != ExitOK || got.stderr != "" {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
		golden(t, filepath.Join("testdata", file), got.stdout)
	}
}

func TestEveryCommandSaysWhatToDoWithoutAnAgent(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.sock")
	for _, args := range []string{"status", "endpoint list", "identity list", "policy list", "service list", "service describe a/b", "observe", "observe -f"} {
		got := run(t, missing, strings.Fields(args)...)
		if got.code != ExitUnreachable || !strings.Contains(got.stderr, "systemctl status weft-agent") ||
			!strings.Contains(got.stderr, missing+": no such file or directory") || !strings.Contains(got.stderr, "WEFT_SOCKET") {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
	}
	if got := run(t, missing, "version"); got.code != ExitOK || !strings.Contains(got.stdout, "cannot be reached") {
		t.Errorf("version: exit %d: %s", got.code, got.stdout)
	}
}

func TestAStoppedAgentIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if got := run(t, path, "status"); got.code != ExitUnreachable || !strings.Contains(got.stderr, "the agent has stopped") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestSocketFromTheEnvironment(t *testing.T) {
	socket := serve(t, &agent{status: wellStatus()})
	env := Env{Getenv: func(name string) string {
		if name == "WEFT_SOCKET" {
			return socket
		}
		return ""
	}}
	if got := runIn(t, t.Context(), env, "", "status"); got.code != ExitOK {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestFailingAgentIsAnError(t *testing.T) {
	s := wellStatus()
	s.Health = agentv1.Health_HEALTH_FAILING
	got := run(t, serve(t, &agent{status: s}), "status")
	if got.code != ExitError || !strings.Contains(got.stdout, "failing") || !strings.Contains(got.stderr, "the agent is failing") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestWait(t *testing.T) {
	a := &agent{status: wellStatus(), waits: make(chan struct{})}
	socket := serve(t, a)
	got := run(t, socket, "status", "--wait", "--timeout", "50ms")
	if got.code != ExitTimeout || !strings.Contains(got.stderr, "after 50ms not all intent is in the kernel") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if !strings.Contains(got.stdout, "12 in the kernel, 13 wanted (under way)") {
		t.Errorf("it does not show how things stand: %s", got.stdout)
	}
	close(a.waits)
	if got := run(t, socket, "status", "--wait"); got.code != ExitOK {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestNoAnswerInTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silent.sock")
	silent, err := net.Listen("unix", path) // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, args := range []string{"status", "policy list", "observe"} {
		got := run(t, path, append(strings.Fields(args), "--timeout", "50ms")...)
		if got.code != ExitTimeout || !strings.Contains(got.stderr, "no answer from the agent at "+path+" within 50ms") {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestWaitForAnAgentThatIsYetToStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "later.sock")
	for _, timeout := range []string{"200ms", "300ms", "400ms"} { // some end while it tries again
		if got := run(t, path, "status", "--wait", "--timeout", timeout); got.code != ExitUnreachable {
			t.Errorf("%s: exit %d: %s", timeout, got.code, got.stderr)
		}
	}
	done := make(chan result)
	go func() { done <- run(t, path, "status", "--wait", "--timeout", "20s") }()
	a := &agent{status: wellStatus(), waits: make(chan struct{})}
	close(a.waits)
	if err := os.Symlink(serve(t, a), path); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.code != ExitOK {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	a := &agent{status: wellStatus(), waits: make(chan struct{}), asked: interrupt}
	if got := runIn(t, ctx, Env{}, serve(t, a), "status", "--wait"); got.code != ExitInterrupted || got.stderr != "" {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"frobnicate", "status extra", "status --frob", "endpoint frob", "status --timeout soon", "status -o xml",
		"service describe", "service describe web"} {
		if got := run(t, "/nonexistent", strings.Fields(args)...); got.code != ExitUsage || got.stderr == "" {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
	}
	for _, args := range []string{"", "endpoint", "--help", "observe --help"} {
		if got := run(t, "", strings.Fields(args)...); got.code != ExitOK || !strings.Contains(got.stdout, "Usage:") {
			t.Errorf("%q: exit %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestCompletion(t *testing.T) {
	socket := serve(t, &agent{})
	got := run(t, socket, "__complete", "observe", "--pod", "demo/b")
	if got.code != ExitOK || !strings.HasPrefix(got.stdout, "demo/backend-v1\n") || strings.Contains(got.stdout, "intruder") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if got := run(t, socket, "__complete", "observe", "--verdict", ""); !strings.HasPrefix(got.stdout, "forwarded\ndropped\n") {
		t.Errorf("verdicts: %s", got.stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := run(t, "", "completion", shell); got.code != ExitOK || len(got.stdout) < 1000 {
			t.Errorf("%s: exit %d, %d bytes", shell, got.code, len(got.stdout))
		}
	}
}
