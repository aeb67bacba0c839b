// SPDX-License-Identifier: Apache-2.0

// Command demo tells the story of Weft on one host. It runs in namespaces of its
// own, so that its host is not this one and nothing is left when it ends. Each
// line that it prints is a thing that was seen to happen; one that is not seen
// in time ends it with a status other than 0. At a terminal it then stays up
// until Ctrl-C and says what to try.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/sandbox"
)

// failEnv names a step, by its number, that shall fail: CI proves with it that
// a failure is told and leaves nothing behind.
const failEnv = "DEMO_FAIL_STEP"

func main() {
	bin := flag.String("bin", "build/bin", "folder of the binaries")
	manifests := flag.String("manifests", "tests/demo/manifests", "folder of the manifests")
	envoy := flag.String("envoy", "build/envoy/envoy", "binary of the stock Envoy; empty: the story is told without requests")
	slower := flag.Int("slower", 1, "how many times slower than others this machine is; all deadlines are longer by this")
	stay := flag.String("stay", "auto", "stay up after the story: yes, no, auto (at a terminal)")
	flag.Parse()
	sandbox.Enter()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := demo(ctx, newStage(*bin, *manifests, *envoy, max(1, *slower)), *stay == "yes" || *stay == "auto" && atTerminal())
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Println("\nended before its end; everything that it made is gone")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, st *stage, stay bool) error {
	if err := st.find(); err != nil {
		return err
	}
	defer st.close()
	fmt.Println("Weft on one host, without Kubernetes. This host is a set of namespaces; yours is not touched.")
	if err := tell(ctx, os.Stdout, st.story(), os.Getenv(failEnv)); err != nil {
		if log := st.agentLog(); log != "" && ctx.Err() == nil && !errors.Is(err, sandbox.ErrNotReady) {
			err = fmt.Errorf("%w\nthe agent's log ends:\n%s", err, log)
		}
		return err
	}
	fmt.Println("\nThat is all: every step was seen.")
	if !stay {
		return nil
	}
	err := st.stay(ctx, os.Stdout)
	if errors.Is(err, context.Canceled) {
		fmt.Println("\nleaving; everything that the demo made is gone")
		return nil
	}
	return err
}

func atTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return err == nil
}
