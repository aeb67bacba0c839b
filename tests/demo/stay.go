// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// stay keeps the stage up, with some traffic to look at, until ctx ends. An
// agent that somebody kills is started again.
func (s *stage) stay(ctx context.Context, out io.Writer) error {
	frontend := s.pods["frontend"].IPv4.String()
	fmt.Fprintf(out, `
It stays up until Ctrl-C. From a second terminal, as root, enter it:
  nsenter -m -n -p -t %[1]s env PATH="%[2]s:$PATH" bash
and in there:
  weft observe --follow
  weft status
  weft policy list --entries
  weft endpoint list
  vi %[3]s/policy.yaml   # then watch what observe shows
  nsenter --net=/run/netns/demo-client   timeout 2 bash -c 'exec 3<>/dev/tcp/%[4]s/%[5]d; echo hello >&3; head -n 1 <&3'
  nsenter --net=/run/netns/demo-intruder timeout 2 bash -c 'exec 3<>/dev/tcp/%[4]s/%[5]d; echo hello >&3; head -n 1 <&3'
  kill -9 %[6]d   # the agent; it is started again, and no connection notices
`, sandbox.OuterPID(), s.bin, manifestDir, frontend, port, s.current().PID())
	s.chatter()
	for {
		ended := s.current().Done()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
		}
		a, err := s.startAgent()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "the agent has ended; started again, as process %d in there\n", a.PID())
		if _, err := a.Ready(ctx, s.within(20*time.Second)); err != nil {
			return fmt.Errorf("the agent did not come back: %w", err)
		}
	}
}

// chatter makes a few flows a second, for whoever observes.
func (s *stage) chatter() {
	for _, pair := range [][2]string{{"client", "frontend"}, {"frontend", "backend-v1"}, {"frontend", "backend-v2"}, {"intruder", "frontend"}} {
		for _, addr := range s.addrs(pair[1]) {
			sandbox.StartLoop(sandbox.LoopConfig{NS: s.pods[pair[0]].NS, Network: "tcp", Addr: addr,
				Every: 2 * time.Second, Timeout: time.Second, Fresh: true})
		}
	}
}
