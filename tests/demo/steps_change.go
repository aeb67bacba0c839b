// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	// still is how long a transfer must stand before it counts as stopped; it
	// sends a line every millisecond.
	still = 300 * time.Millisecond
	// effect is the time within which an edit must be in the kernel.
	effect = time.Second
)

// policyEdited takes frontend out of what the backends admit, while frontend
// talks to backend-v2.
func (s *stage) policyEdited(ctx context.Context) (string, error) {
	for _, addr := range s.addrs("backend-v2") {
		st, err := sandbox.StartStream(sandbox.StreamConfig{NS: s.pods["frontend"].NS, Addr: addr, Every: time.Millisecond})
		if err != nil {
			return "", err
		}
		s.streams = append(s.streams, st)
	}
	if err := s.moving(ctx, s.streams, time.Now(), 1<<20); err != nil {
		return "", err
	}
	policy, err := os.ReadFile(filepath.Join(s.manifests, "policy.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading the policy: %w", err)
	}
	edited := strings.Replace(string(policy), admitted("frontend"), admitted("nobody"), 1)
	if edited == string(policy) {
		return "", errors.New("policy.yaml has no rule for frontend to edit")
	}
	if err := writeManifest("policy.yaml", []byte(edited)); err != nil {
		return "", err
	}
	at := time.Now()
	var last time.Time
	err = sandbox.Eventually(ctx, s.within(5*time.Second), "open connections stopped", func() error {
		last = at
		for _, st := range s.streams {
			p := st.Progress()
			if p.Err != nil {
				return fmt.Errorf("connection ended: %w", p.Err)
			}
			if time.Since(p.Moved) < s.within(still) {
				return fmt.Errorf("still moving %s after the edit", time.Since(at).Round(time.Millisecond))
			}
			if p.Moved.After(last) {
				last = p.Moved
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if took := last.Sub(at); took > s.within(effect) {
		return "", fmt.Errorf("it took %s, more than %s", took, s.within(effect))
	}
	if err := s.refused("frontend", "backend-v2"); err != nil {
		return "", err
	}
	line, err := s.observed(ctx, []string{"--verdict", "dropped", "--from-pod", "demo/frontend"}, "demo/backend-v2", "WeftNetworkPolicy demo/backend")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("in the kernel %d ms after the file was saved; a new connection is refused too\n%s",
		last.Sub(at).Milliseconds(), line), nil
}

// admitted is what the backends' policy says about the one app that it admits.
func admitted(app string) string {
	return "ingress:\n  - fromEndpoints: [{matchLabels: {app: " + app + "}}]"
}

func (s *stage) policyRestored(ctx context.Context) (string, error) {
	policy, err := os.ReadFile(filepath.Join(s.manifests, "policy.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading the policy: %w", err)
	}
	if err := writeManifest("policy.yaml", policy); err != nil {
		return "", err
	}
	at := time.Now()
	err = sandbox.Eventually(ctx, s.within(5*time.Second), "a new connection let in", func() error {
		// Short, so that a SYN dropped just before costs no retransmission time.
		_, err := sandbox.Ask(s.pods["frontend"].NS, "tcp", s.addrs("backend-v2")[0], "hello", s.within(20*time.Millisecond))
		return err
	})
	if err != nil {
		return "", err
	}
	let := time.Since(at)
	if err := s.moving(ctx, s.streams, time.Now(), 1<<20); err != nil {
		return "", err
	}
	for _, st := range s.streams {
		st.Stop()
	}
	s.streams = nil
	return fmt.Sprintf("new connections after %d ms, the old one when TCP next tried it, after %d ms",
		let.Milliseconds(), time.Since(at).Milliseconds()), nil
}

// moving waits until every stream has moved since a time, and by some bytes.
func (s *stage) moving(ctx context.Context, streams []*sandbox.Stream, since time.Time, bytes uint64) error {
	begin := make([]uint64, len(streams))
	for i, st := range streams {
		begin[i] = st.Progress().Echoed
	}
	return sandbox.Eventually(ctx, s.within(15*time.Second), "transfers moving", func() error {
		for i, st := range streams {
			p := st.Progress()
			switch {
			case p.Err != nil:
				return fmt.Errorf("a transfer ended: %w", p.Err)
			case p.Moved.Before(since), p.Echoed < begin[i]+bytes:
				return fmt.Errorf("a transfer has moved %d bytes", p.Echoed-begin[i])
			}
		}
		return nil
	})
}
