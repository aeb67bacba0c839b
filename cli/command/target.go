// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/cluster"
	"github.com/weftmesh/weft/pkg/agentsock"
)

// target is whom a command line speaks to: the agent behind a socket of this host,
// or the agents of a cluster.
type target struct {
	socket  string
	cluster cluster.Options
	nodes   []string
	remote  bool // a cluster
	guessed bool // that it is one, as this host has no socket
}

func (t *target) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&t.socket, "socket", agentsock.Default, "socket of the agent of this host (environment: WEFT_SOCKET)")
	flags.StringVar(&t.cluster.Kubeconfig, "kubeconfig", "", "kubeconfig of a cluster (environment: KUBECONFIG; else ~/.kube/config)")
	flags.StringVar(&t.cluster.Context, "context", "", "context of the kubeconfig; empty: its current one")
	// Not --namespace: observe has that for the namespace of flows.
	flags.StringVar(&t.cluster.Namespace, "weft-namespace", cluster.DefaultNamespace, "namespace of the cluster that Weft is installed in")
	flags.StringSliceVar(&t.nodes, "node", nil, "only the agents of these nodes of the cluster")
}

// choose decides between the two: what a flag asks for, then the environment, then
// the socket if there is one.
func (t *target) choose(flags *pflag.FlagSet, getenv func(string) string) error {
	t.remote, t.guessed = false, false
	var asked string
	for _, name := range []string{"kubeconfig", "context", "weft-namespace", "node"} {
		if flags.Changed(name) {
			asked = name
		}
	}
	switch env := getenv("WEFT_SOCKET"); {
	case flags.Changed("socket") && asked != "":
		return usagef("--socket is about this host's agent and --%s about a cluster: give one of the two", asked)
	case flags.Changed("socket"):
	case asked != "":
		t.remote = true
	case env != "":
		t.socket = env
	default:
		_, err := os.Lstat(t.socket)
		t.remote = errors.Is(err, fs.ErrNotExist)
		t.guessed = t.remote
	}
	return nil
}

// fleet is the agents of one command.
type fleet struct {
	agents  []*client.Agent
	cluster *cluster.Cluster // nil: the agent is this host's
}

// openCluster is for commands that need one.
func (a *app) openCluster() (*cluster.Cluster, error) {
	open := a.env.OpenCluster
	if open == nil {
		open = cluster.Open
	}
	c, err := open(a.target.cluster)
	if errors.Is(err, cluster.ErrNoConfig) {
		return nil, &client.UnreachableError{Where: a.target.socket, Cause: fmt.Errorf("%w, and %w", fs.ErrNotExist, err),
			Remedy: "On a host with an agent: systemctl status weft-agent; if its socket lies elsewhere, name it with --socket or WEFT_SOCKET.\n" +
				"For a cluster: name its kubeconfig with --kubeconfig or KUBECONFIG."}
	}
	return c, err
}

// orHere comes back to this host if nothing but a missing socket speaks for a
// cluster and there is no kubeconfig: an agent may be about to start here.
func (a *app) orHere() {
	if !a.target.guessed {
		return
	}
	if _, err := a.openCluster(); errors.Is(err, cluster.ErrNoConfig) {
		a.target.remote = false
	}
}

func (a *app) fleet(ctx context.Context) (*fleet, error) {
	if !a.target.remote {
		return &fleet{agents: []*client.Agent{client.Local(a.target.socket)}}, nil
	}
	c, err := a.openCluster()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	agents, err := c.Agents(ctx, a.target.nodes)
	return &fleet{agents: agents, cluster: c}, err
}

// place names whom the command speaks to, for messages.
func (t *target) place() string {
	if t.remote {
		return "the cluster"
	}
	return "the agent at " + t.socket
}

// atOnce is how many agents are asked at the same time.
const atOnce = 32

// answer is what one agent said.
type answer[M any] struct {
	agent   *client.Agent
	message M
	err     error
}

// each asks all agents; the answers are in their order.
func each[M any](ctx context.Context, a *app, f *fleet, ask func(context.Context, *client.Client) (M, error)) []answer[M] {
	answers := make([]answer[M], len(f.agents))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, agent := range f.agents {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i].agent = agent
			answers[i].err = a.call(ctx, agent, func(ctx context.Context, c *client.Client) (err error) {
				answers[i].message, err = ask(ctx, c)
				return err
			})
			if status.Code(answers[i].err) == codes.DeadlineExceeded && agent.Node != "" {
				answers[i].err = &lateError{after: a.timeout}
			}
		})
	}
	wg.Wait()
	return answers
}

// lateError is an agent of a node that did not answer in time.
type lateError struct{ after time.Duration }

// Error says for how long it was waited.
func (e *lateError) Error() string { return fmt.Sprintf("no answer within %v", e.after) }

// Unwrap makes it a matter of time.
func (e *lateError) Unwrap() error { return context.DeadlineExceeded }

// answered splits answers into those that came and an error about those that did not.
func answered[M any](answers []answer[M]) ([]answer[M], error) {
	var good []answer[M]
	var missed []error
	for _, one := range answers {
		switch {
		case one.err == nil:
			good = append(good, one)
		case one.agent.Node == "":
			return nil, one.err
		default:
			missed = append(missed, atNode(one.agent, one.err))
		}
	}
	switch {
	case len(missed) == 0:
		return good, nil
	case len(good) == 0 && len(missed) == 1:
		return nil, missed[0]
	}
	return good, &missedError{missed: missed, all: len(good) == 0}
}

// atNode names the agent in an error that does not.
func atNode(agent *client.Agent, err error) error {
	var unreachable *client.UnreachableError
	if errors.As(err, &unreachable) {
		return err
	}
	return &nodeError{where: agent.Where, err: err}
}

// nodeError is what the agent of a node answered instead.
type nodeError struct {
	where string
	err   error
}

// Error names the node, and leaves out how the answer came.
func (e *nodeError) Error() string { return e.where + ": " + plain(e.err) }

// Unwrap gives the error without the node.
func (e *nodeError) Unwrap() error { return e.err }

// missedError is agents of a cluster that did not answer.
type missedError struct {
	missed []error
	all    bool // none did
}

// shownMissed is how many of them an error names.
const shownMissed = 5

// Error has a line for each of the first few.
func (e *missedError) Error() string {
	var lines []string
	for i, err := range e.missed {
		if i == shownMissed {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.missed)-i))
			break
		}
		lines = append(lines, plain(err))
	}
	return strings.Join(lines, "\nweft: ")
}

// Unwrap gives the errors if no agent answered: the exit code is then theirs.
func (e *missedError) Unwrap() []error {
	if e.all {
		return e.missed
	}
	return nil
}

// call runs one request with a connection and the time limit.
func (a *app) call(ctx context.Context, agent *client.Agent, do func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return stream(ctx, agent, do)
}

// stream is call without a time limit.
func stream(ctx context.Context, agent *client.Agent, do func(context.Context, *client.Client) error) error {
	c, err := agent.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Explain(do(ctx, c))
}
