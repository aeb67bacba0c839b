// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// step is one thing that the story shows. see returns what was seen, in one
// line or with more lines below it, or why it was not.
type step struct {
	name   string
	within time.Duration
	see    func(context.Context) (string, error)
}

// tell runs the steps in order and prints each as it is seen.
func tell(ctx context.Context, out io.Writer, steps []step, failing string) error {
	for i, s := range steps {
		begin := time.Now()
		seen, err := try(ctx, s)
		if err == nil && failing == strconv.Itoa(i+1) {
			err = fmt.Errorf("made to fail by %s", failEnv)
		}
		took := time.Since(begin)
		if err != nil {
			fmt.Fprintf(out, "FAIL %5.2fs  %d. %s\n", took.Seconds(), i+1, s.name)
			return fmt.Errorf("step %d was not seen: %s: %w", i+1, s.name, err)
		}
		head, rest, _ := strings.Cut(seen, "\n")
		fmt.Fprintf(out, "ok   %5.2fs  %d. %s: %s\n", took.Seconds(), i+1, s.name, head)
		for line := range strings.Lines(rest) {
			fmt.Fprintf(out, "             %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return nil
}

func try(ctx context.Context, s step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	type result struct {
		seen string
		err  error
	}
	done := make(chan result, 1)
	go func() { // a step that hangs is left behind; the process ends next
		seen, err := s.see(ctx)
		done <- result{seen, err}
	}()
	select {
	case r := <-done:
		return r.seen, r.err
	case <-ctx.Done():
	}
	// It may still tell what it was waiting for.
	select {
	case r := <-done:
		return r.seen, r.err
	case <-time.After(200 * time.Millisecond):
		return "", fmt.Errorf("nothing within %s: %w", s.within, ctx.Err())
	}
}
