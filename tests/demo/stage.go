// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	manifestDir = "/etc/weft/manifests"
	configFile  = "/etc/weft/config.yaml"
	namespace   = "demo"
	port        = 8080
	askTime     = time.Second // that an answer may take
)

// config is the agent's; everything else has its default.
const config = `# SPDX-License-Identifier: Apache-2.0
manifests: ` + manifestDir + `
envoy: {binary: %q}
`

// stage is the host of the demo and what stands on it.
type stage struct {
	bin       string
	manifests string // folder they are copied from
	envoy     string // binary; empty: the story is told without requests
	slower    int    // factor of all deadlines
	runtime   *sandbox.Runtime

	mu    sync.Mutex // agent: the story and stay's keeper
	agent *sandbox.Agent

	pods    map[string]*sandbox.Pod
	echoes  []*sandbox.Echo
	streams []*sandbox.Stream // frontend to backend-v2, while the policy is edited
	load    *load             // client to frontend, while the agent is away
}

func newStage(bin, manifests, envoy string, slower int) *stage {
	return &stage{bin: bin, manifests: manifests, envoy: envoy, slower: slower, pods: make(map[string]*sandbox.Pod)}
}

// find settles where the binaries are.
func (s *stage) find() error {
	bin, err := filepath.Abs(s.bin)
	if err != nil {
		return fmt.Errorf("finding the binaries: %w", err)
	}
	s.bin, s.runtime = bin, sandbox.NewRuntime(bin)
	if s.envoy == "" {
		return nil
	}
	if s.envoy, err = filepath.Abs(s.envoy); err != nil {
		return fmt.Errorf("finding Envoy: %w", err)
	}
	if _, err := os.Stat(s.envoy); err != nil {
		return fmt.Errorf("there is no Envoy, run make envoy first: %w", err)
	}
	return nil
}

// within is a deadline on this machine.
func (s *stage) within(d time.Duration) time.Duration { return d * time.Duration(s.slower) }

// close ends the agent in good order; the sandbox takes care of all else.
func (s *stage) close() {
	if a := s.current(); a != nil {
		_ = a.Kill()
	}
}

func (s *stage) current() *sandbox.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

func (s *stage) startAgent() (*sandbox.Agent, error) {
	a, err := sandbox.StartAgent(sandbox.AgentConfig{Binary: filepath.Join(s.bin, "weft-agent"), Config: configFile})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = a
	return a, nil
}

// agentLog is the end of what the agent wrote.
func (s *stage) agentLog() string {
	a := s.current()
	if a == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(a.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// furnish writes the agent's configuration and manifests.
func (s *stage) furnish() error {
	if err := os.WriteFile(configFile, fmt.Appendf(nil, config, s.envoy), 0o644); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(s.manifests, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no manifests in %s", s.manifests)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("reading a manifest: %w", err)
		}
		if err := writeManifest(filepath.Base(f), content); err != nil {
			return err
		}
	}
	return nil
}

// writeManifest replaces a manifest as an editor does, whole.
func writeManifest(name string, content []byte) error {
	to := filepath.Join(manifestDir, name)
	if err := os.WriteFile(to+"~", content, 0o644); err != nil {
		return fmt.Errorf("writing a manifest: %w", err)
	}
	return os.Rename(to+"~", to)
}

func (s *stage) attach(ctx context.Context, name string) error {
	p, err := s.runtime.AddPod(ctx, namespace, name)
	if err != nil {
		return err
	}
	if !p.IPv4.IsValid() || !p.IPv6.IsValid() {
		return fmt.Errorf("%s got the addresses %v and %v, not one of each family", name, p.IPv4, p.IPv6)
	}
	s.pods[name] = p
	return nil
}

// addrs are a pod's addresses with the demo's port, IPv4 first.
func (s *stage) addrs(name string) []string {
	p := s.pods[name]
	var out []string
	for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
		out = append(out, net.JoinHostPort(a.String(), strconv.Itoa(port)))
	}
	return out
}

// ask makes one request from a pod to another, in both families.
func (s *stage) ask(network, from, to string) error {
	for _, addr := range s.addrs(to) {
		answer, err := sandbox.Ask(s.pods[from].NS, network, addr, "hello from "+from, s.within(askTime))
		if err != nil {
			return fmt.Errorf("%s to %s over %s: %w", from, to, network, err)
		}
		if answer != to+" hello from "+from {
			return fmt.Errorf("%s to %s over %s: the answer is %q", from, to, network, answer)
		}
	}
	return nil
}

// refused tells that no request from a pod to another is answered, in either
// family.
func (s *stage) refused(from, to string) error {
	for _, addr := range s.addrs(to) {
		if _, err := sandbox.Ask(s.pods[from].NS, "tcp", addr, "let me in", s.within(askTime/2)); err == nil {
			return fmt.Errorf("%s reached %s at %s", from, to, addr)
		}
	}
	return nil
}

// weft runs the command line tool and returns what it prints.
func (s *stage) weft(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "weft"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("weft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// observed waits for a line of `weft observe` that holds all words.
func (s *stage) observed(ctx context.Context, filter []string, words ...string) (string, error) {
	var found string
	what := "a flow with " + strings.Join(words, ", ")
	err := sandbox.Eventually(ctx, s.within(5*time.Second), what, func() error {
		out, err := s.weft(ctx, append([]string{"observe", "--last", "50", "--color", "never"}, filter...)...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if hasAll(line, words) {
				found = strings.TrimSpace(line)
			}
		}
		if found == "" {
			return fmt.Errorf("weft observe shows:\n%s", out)
		}
		return nil
	})
	return found, err
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}
