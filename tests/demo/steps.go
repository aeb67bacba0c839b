// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// story is what the demo shows, in order.
func (s *stage) story() []step {
	steps := []step{
		{"the agent starts on a folder of manifests", s.within(30 * time.Second), s.agentStarts},
		{"the CNI plugin attaches client, frontend, two backends and an intruder", s.within(30 * time.Second), s.podsAttached},
		{"pods that may talk do, over IPv4 and IPv6", s.within(10 * time.Second), s.podsTalk},
		{"the intruder does not get through", s.within(10 * time.Second), s.intruderDropped},
		{"flows are seen as they happen", s.within(10 * time.Second), s.flowsSeen},
		{"a policy edited on disk reaches an open connection", s.within(15 * time.Second), s.policyEdited},
		{"the edit undone, the same connection goes on", s.within(20 * time.Second), s.policyRestored},
		{"a service leads to its two backends", s.within(15 * time.Second), s.serviceServes},
		{"one of the two goes away; no request fails", s.within(15 * time.Second), s.backendLeaves},
		{"the agent is killed with -9; transfers and new connections go on", s.within(15 * time.Second), s.agentKilled},
		{"the agent comes back and finds everything in its place", s.within(30 * time.Second), s.agentReturns},
	}
	if s.envoy != "" {
		steps = append(steps, step{"a policy asks for more than ports, and the stock Envoy for what it asks", s.within(40 * time.Second), s.requestsDecided})
	}
	return steps
}

func (s *stage) agentStarts(ctx context.Context) (string, error) {
	if err := s.furnish(); err != nil {
		return "", err
	}
	a, err := s.startAgent()
	if err != nil {
		return "", err
	}
	status, err := a.Ready(ctx, s.within(25*time.Second))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d policies, revision %d is in the kernel", status.GetPolicies(), status.GetRealizedRevision()), nil
}

func (s *stage) podsAttached(ctx context.Context) (string, error) {
	names := []string{"client", "frontend", "backend-v1", "backend-v2", "intruder"}
	var lines []string
	for _, name := range names {
		if err := s.attach(ctx, name); err != nil {
			return "", err
		}
		p := s.pods[name]
		lines = append(lines, fmt.Sprintf("%-10s %s  %s", name, p.IPv4, p.IPv6))
	}
	for _, name := range []string{"frontend", "backend-v1", "backend-v2"} {
		e, err := sandbox.StartEcho(s.pods[name].NS, name, port)
		if err != nil {
			return "", err
		}
		s.echoes = append(s.echoes, e)
	}
	return fmt.Sprintf("%d pods\n%s", len(names), strings.Join(lines, "\n")), nil
}

func (s *stage) podsTalk(_ context.Context) (string, error) {
	client := s.pods["client"].NS
	err := errors.Join(
		s.ask("tcp", "client", "frontend"), s.ask("udp", "client", "frontend"),
		s.ask("tcp", "frontend", "backend-v1"), s.ask("tcp", "frontend", "backend-v2"),
		sandbox.Ping(client, s.pods["frontend"].IPv4.String(), s.within(askTime)),
		sandbox.Ping(client, s.pods["frontend"].IPv6.String(), s.within(askTime)))
	if err != nil {
		return "", err
	}
	return "client to frontend (TCP, UDP, ping), frontend to both backends (TCP)", nil
}

func (s *stage) intruderDropped(ctx context.Context) (string, error) {
	if err := errors.Join(s.refused("intruder", "frontend"), s.refused("intruder", "backend-v1")); err != nil {
		return "", err
	}
	rule, err := s.observed(ctx, []string{"--verdict", "dropped", "--from-pod", "demo/intruder"},
		"demo/frontend", "WeftNetworkPolicy demo/frontend", "ingressDeny[0]")
	if err != nil {
		return "", err
	}
	isolation, err := s.observed(ctx, []string{"--verdict", "dropped", "--from-pod", "demo/intruder"},
		"demo/backend-v1", "WeftNetworkPolicy demo/backend")
	if err != nil {
		return "", err
	}
	return "dropped, and the reason is known\n" + rule + "\n" + isolation, nil
}

func (s *stage) flowsSeen(ctx context.Context) (string, error) {
	begin := time.Now()
	if err := s.ask("tcp", "frontend", "backend-v2"); err != nil {
		return "", err
	}
	filter := []string{"--from-pod", "demo/frontend", "--to-pod", "demo/backend-v2", "--since", begin.Format(time.RFC3339Nano)}
	started, err := s.observed(ctx, append(filter, "--type", "new"), "FORWARDED", "WeftNetworkPolicy demo/backend", "ingress[0]")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("shown %.0f ms after the request, with the rule that allowed it\n%s",
		time.Since(begin).Seconds()*1000, started), nil
}
