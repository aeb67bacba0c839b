// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/cluster"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// How often a wait looks again, and how long an agent may take in one look to get
// its intent into the kernel.
const (
	lookAgain  = 500 * time.Millisecond
	lookMoment = 3 * time.Second
	// installIn is how long a wait for a cluster lasts if --timeout does not say: nodes
	// pull images first.
	installIn = 5 * time.Minute
)

// clusterView is how Weft stands in a cluster, at one look.
type clusterView struct {
	state   *cluster.State
	answers []answer[*agentv1.GetStatusResponse]
}

// clusterStatus waits as long as wait, which may be 0, until all is well.
func (a *app) clusterStatus(ctx context.Context, wait time.Duration, output string) error {
	c, err := a.openCluster()
	if err != nil {
		return err
	}
	if wait > 0 {
		return a.waitForCluster(ctx, c, wait, output)
	}
	view, err := a.lookOnce(ctx, c)
	if err != nil {
		return err
	}
	// With time of its own: an agent that does not answer takes all of the other's.
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := c.FindUnattached(ctx, view.state); err != nil {
		return err
	}
	return a.showCluster(view, output)
}

// lookOnce is a look within the time limit.
func (a *app) lookOnce(ctx context.Context, c *cluster.Cluster) (*clusterView, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return a.look(ctx, c)
}

// look asks the API server and every agent. The nodes of --node are looked at alone.
func (a *app) look(ctx context.Context, c *cluster.Cluster) (*clusterView, error) {
	state, err := c.State(ctx, a.env.Now())
	if err != nil {
		return nil, err
	}
	agents, err := c.Agents(ctx, a.target.nodes)
	if err != nil && !(errors.Is(err, cluster.ErrNoAgents) && len(a.target.nodes) == 0) {
		return nil, err
	}
	if len(a.target.nodes) > 0 {
		state.Nodes = slices.DeleteFunc(state.Nodes, func(n cluster.Node) bool { return !slices.Contains(a.target.nodes, n.Name) })
	}
	answers := each(ctx, a, &fleet{agents: agents, cluster: c}, func(ctx context.Context, c *client.Client) (*agentv1.GetStatusResponse, error) {
		return c.GetStatus(ctx, &agentv1.GetStatusRequest{})
	})
	return &clusterView{state: state, answers: answers}, nil
}

// settled asks the agents that are behind whether they catch up in a moment: intent
// that changes all the time is always a little ahead of the kernel.
func (v *clusterView) settled(ctx context.Context, a *app) (behind []string) {
	var late []*client.Agent
	for _, one := range v.answers {
		if s := one.message; one.err == nil && (s.GetDesiredRevision() == 0 || s.GetRealizedRevision() < s.GetDesiredRevision()) {
			late = append(late, one.agent)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookMoment)
	defer cancel()
	for _, one := range each(ctx, a, &fleet{agents: late}, func(ctx context.Context, c *client.Client) (*agentv1.GetStatusResponse, error) {
		return c.GetStatus(ctx, &agentv1.GetStatusRequest{WaitRealized: true})
	}) {
		if one.err != nil {
			behind = append(behind, "node "+one.agent.Node+": not all intent is in the kernel")
		}
	}
	return behind
}

// missing is what a wait waits for, sorted.
func (v *clusterView) missing(ctx context.Context, a *app) []string {
	out := v.state.Missing()
	reached := make(map[string]bool)
	for _, one := range v.answers {
		reached[one.agent.Node] = true
		switch {
		case one.err != nil:
			out = append(out, plain(atNode(one.agent, one.err)))
		case one.message.GetHealth() == agentv1.Health_HEALTH_FAILING:
			out = append(out, "node "+one.agent.Node+": the agent is failing: "+render.Problem(one.message))
		}
	}
	for _, n := range v.state.Nodes {
		if !reached[n.Name] {
			out = append(out, "node "+n.Name+": it has no pod of the agent")
		}
	}
	out = append(out, v.settled(ctx, a)...)
	slices.Sort(out)
	return slices.Compact(out)
}

func (a *app) waitForCluster(ctx context.Context, c *cluster.Cluster, wait time.Duration, output string) error {
	until, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var view *clusterView
	var missing []string
	var lookErr error
	for told := ""; ; {
		now, err := a.look(until, c)
		switch {
		case err == nil:
			view, lookErr = now, nil
			if missing = now.missing(until, a); len(missing) == 0 {
				if err := c.FindUnattached(until, view.state); err != nil {
					return err
				}
				return a.showCluster(view, output)
			}
		case until.Err() == nil:
			missing, lookErr = []string{plain(err)}, err
		}
		if what := strings.Join(missing, "; "); what != told && until.Err() == nil {
			told = what
			fmt.Fprintln(a.env.Stderr, waitingFor(missing, a.env.Width))
		}
		select {
		case <-until.Done():
			return a.gaveUp(ctx, view, &notReadyError{missing: missing, after: wait, width: a.env.Width}, lookErr, output)
		case <-time.After(lookAgain):
		}
	}
}

// waitingFor is one thing in a line, several in a line each.
func waitingFor(missing []string, width int) string {
	const head = "weft: waiting for:"
	if len(missing) == 1 {
		return render.Wrap(head+" "+missing[0], width)
	}
	lines := []string{head}
	for _, m := range missing {
		lines = append(lines, render.Wrap("  "+m, width))
	}
	return strings.Join(lines, "\n")
}

// gaveUp shows how things stood last.
func (a *app) gaveUp(ctx context.Context, view *clusterView, why *notReadyError, lookErr error, output string) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case view == nil && lookErr != nil:
		return lookErr
	case view == nil:
		return context.DeadlineExceeded
	}
	if err := a.writeCluster(view, output); err != nil {
		return err
	}
	return why
}

// notReadyError is a wait for a cluster that was given up.
type notReadyError struct {
	missing []string
	after   time.Duration
	width   int // of the terminal; 0: there is none
}

// Error has a line for each thing that is missing.
func (e *notReadyError) Error() string {
	const program = "weft: " // stands before the first one
	lines := make([]string, len(e.missing))
	for i, m := range e.missing {
		lines[i] = render.Wrap(program+m, e.width)
	}
	return strings.TrimLeft(strings.TrimPrefix(strings.Join(lines, "\n"), "weft:"), " ")
}

// Unwrap makes it a matter of time.
func (e *notReadyError) Unwrap() error { return context.DeadlineExceeded }

func (a *app) showCluster(v *clusterView, output string) error {
	if err := a.writeCluster(v, output); err != nil {
		return err
	}
	good, missed := answered(v.answers)
	if missed != nil {
		return missed
	}
	for _, one := range good {
		if one.message.GetHealth() == agentv1.Health_HEALTH_FAILING {
			return fmt.Errorf("node %s: %w", one.agent.Node, errFailing)
		}
	}
	if len(v.answers) == 0 {
		return fmt.Errorf("%w in namespace %s", cluster.ErrNoAgents, v.state.Namespace)
	}
	return nil
}

func (a *app) writeCluster(v *clusterView, output string) error {
	if output == "json" {
		return render.NodesJSON(a.env.Stdout, v.state, ofNodes(v.answers))
	}
	width := 0
	if a.env.Terminal {
		width = a.env.Width
	}
	return render.ClusterStatus(a.env.Stdout, v.state, ofNodes(v.answers), a.env.Now(), width)
}
