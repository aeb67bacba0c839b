// SPDX-License-Identifier: Apache-2.0

// Package command is the command line of weft: its commands, flags and exit
// codes.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/cluster"
)

// Env is what the command line sees of the world.
type Env struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Getenv   func(string) string
	Terminal bool // Stdout is one
	Width    int  // columns of Stderr, and of Stdout if that is a terminal; 0: Stderr is none
	Now      func() time.Time
	Location *time.Location // in which times are shown
	Version  string
	// OpenCluster finds a cluster; nil: by its kubeconfig.
	OpenCluster func(cluster.Options) (*cluster.Cluster, error)
}

// Exit codes, documented in the help and in docs/CLI.md.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitTimeout     = 4
	ExitInterrupted = 130
)

// exitCodes is the part of the help about them.
const exitCodes = `Exit codes:
  0    done; also when observe --follow is ended with Ctrl-C or by its reader going away
  1    an error, or status found an agent failing, or some agents of a cluster did not answer
  2    wrong usage: a flag, an argument or a filter
  3    no agent can be reached, or no cluster; observe --follow that has begun waits for it instead
  4    no answer in time (--timeout), or status --wait gave up
  130  interrupted`

// app is one run of the command line.
type app struct {
	env     Env
	target  target
	timeout time.Duration
	// started is set once flags and arguments were understood: an error before
	// is one of usage.
	started bool
	// asked is the command that the arguments name, for whose help to see.
	asked string
}

// usageError is a value of a flag that only the command itself can judge.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errNotRealized is a wait that was given up.
var errNotRealized = errors.New("not all intent is in the kernel")

// errFailing is an agent that answers but is not well; what is wrong was shown.
var errFailing = errors.New("the agent is failing")

// Run executes one command line and returns the exit code.
func Run(ctx context.Context, env Env, args []string) int {
	a := &app{env: env}
	root := a.root()
	root.SetArgs(args)
	asked, err := root.ExecuteContextC(ctx)
	a.asked = asked.CommandPath()
	code := a.exitCode(ctx, err)
	if err != nil && code != ExitOK && code != ExitInterrupted {
		a.report(err)
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "Show what the agents of Weft know and do",
		Long: `weft shows the health of Weft's agents, their endpoints, identities, policies,
services and flows.

On a host with an agent it talks to that one over its Unix socket. Elsewhere, or
with --kubeconfig, --context, --weft-namespace or --node, it finds the agents of a
Kubernetes cluster through its kubeconfig, and talks to each as kubectl exec does:
that needs the right to create pods/exec in Weft's namespace, and no open port.

` + exitCodes,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           a.env.Version,
		PersistentPreRunE: a.start,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetVersionTemplate("weft {{.Version}}\n")
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	flags := root.PersistentFlags()
	a.target.addFlags(flags)
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for an answer; observe --follow has no limit")
	root.AddCommand(a.statusCommand(), a.endpointCommand(), a.identityCommand(), a.policyCommand(), a.serviceCommand(),
		a.l7Command(), a.observeCommand(), a.connectivityCommand(), a.versionCommand(), a.dialStdioCommand())
	return root
}

// start notes that the command line was understood.
func (a *app) start(c *cobra.Command, _ []string) error {
	if a.timeout <= 0 {
		return usagef("--timeout %v: want a time above zero, such as 10s", a.timeout)
	}
	if err := a.target.choose(c.Flags(), a.env.Getenv); err != nil {
		return err
	}
	a.started = true
	return nil
}

// noArgs refuses arguments. (That of cobra calls them unknown commands.)
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// group is a command that only holds others.
func group(use string, aliases []string, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Aliases: aliases, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], c.CommandPath())
			}
			return c.Help()
		},
	}
	c.AddCommand(children...)
	return c
}

func (a *app) exitCode(ctx context.Context, err error) int {
	var unreachable *client.UnreachableError
	var usage usageError
	switch {
	case err == nil, readerGone(err):
		return ExitOK
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		status.Code(err) == codes.DeadlineExceeded:
		return ExitTimeout
	case errors.As(err, &unreachable), errors.Is(err, cluster.ErrNoAgents):
		return ExitUnreachable
	case errors.As(err, &usage), !a.started, status.Code(err) == codes.InvalidArgument:
		return ExitUsage
	}
	return ExitError
}

// readerGone: whoever read the output has seen enough.
func readerGone(err error) bool { return errors.Is(err, syscall.EPIPE) }

// report writes an error for people: what is wrong, then what to do.
func (a *app) report(err error) {
	message, advice := plain(err), ""
	var unreachable *client.UnreachableError
	switch code := a.exitCode(context.Background(), err); {
	case code == ExitTimeout:
		message = a.late(err)
		advice = "Give it longer with --timeout, or look at its log: journalctl -u weft-agent, or kubectl -n weft-system logs."
	case errors.As(err, &unreachable):
		advice = unreachable.Advice()
		if missed := new(missedError); !errors.As(err, &missed) {
			message = unreachable.Error()
		}
	case code == ExitUsage:
		advice = "See " + a.asked + " --help."
	}
	fmt.Fprintln(a.env.Stderr, "weft:", message)
	if advice != "" {
		fmt.Fprintln(a.env.Stderr, strings.TrimSpace(advice))
	}
}

// late says what did not come in time.
func (a *app) late(err error) string {
	var notReady *notReadyError
	switch {
	case errors.As(err, &notReady):
		return fmt.Sprintf("after %v Weft is not ready:\nweft: %v", notReady.after, notReady)
	case errors.Is(err, errNotRealized):
		return fmt.Sprintf("after %v not all intent is in the kernel", a.timeout)
	}
	return fmt.Sprintf("no answer from %s within %v", a.target.place(), a.timeout)
}

// plain leaves out of a flag's fault how the number was parsed.
func plain(err error) string {
	var number *strconv.NumError
	message := err.Error()
	if s, ok := status.FromError(err); ok {
		message = s.Message()
	}
	if errors.As(err, &number) {
		return strings.Replace(message, number.Error(), "want a number from 0", 1)
	}
	return message
}
