// SPDX-License-Identifier: Apache-2.0

// Command weft shows what the agent of this node knows and does.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/weftmesh/weft/cli/command"
)

// version is set by the build from the file VERSION.
var version string

func main() {
	// A reader that goes away (weft observe -f | head) is an error of a write
	// like another, and ends the command quietly.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, command.Env{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Terminal: term.IsTerminal(int(os.Stdout.Fd())),
		Now:      time.Now, Location: time.Local, Version: buildVersion(),
	}, os.Args[1:])
	stop()
	os.Exit(code)
}

// buildVersion is what the build set, or what Go knows of the source.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
