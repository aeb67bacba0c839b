// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// defaultLast is how many flows are shown when nothing says how many.
const defaultLast = 20

// observeFlags are the flags of one call.
type observeFlags struct {
	follow bool
	last   uint64
	since  string
	output string
	color  string
	filter filterFlags
}

func (a *app) observeCommand() *cobra.Command {
	var f observeFlags
	c := &cobra.Command{
		Use:   "observe",
		Short: "Show flows: what was let pass or dropped, and the rule behind it",
		Long: fmt.Sprintf(`Shows flows, oldest first: the last %d that match, those that --last or --since
ask for, or with --follow each one as it happens. Requests come up to a second
after they were answered, in the order in which the proxy tells of them.

Values of one filter flag are alternatives (repeat it or join them by commas),
different filter flags must all match, and each has a --not- form that leaves out
what it matches. Flows that came faster than they could be read are counted on
standard error.

Of a cluster it shows the flows of all nodes, or of those of --node, in the order of
their times (with --follow as far as they come within 300 ms of each other); what
was lost is told by node. A connection between two nodes is shown by each.

Following outlasts a restart of the agent: it waits until the agent is back and
goes on with the flows after the last one shown. Standard error tells both, for
flows in between may be missing. An agent that is not there to begin with is an
error, exit code 3; of several, if none is.`, defaultLast),
		Example: `  weft observe --follow --namespace demo
  weft observe --verdict dropped --to-pod demo/backend-v1 --since 5m
  weft observe -f -l app=frontend --not-port 53 -o json
  weft observe --to-pod demo/backend --http-path /api --http-status 5+`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.observe(c.Context(), &f, c.Flags().Changed("last"))
		},
	}
	flags := c.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with new flows until interrupted")
	flags.Uint64Var(&f.last, "last", 0, "begin with the last N flows that match; 0: all that are kept")
	flags.StringVar(&f.since, "since", "", "begin at a time (RFC 3339) or that long ago (5m)")
	flags.StringVar(&f.color, "color", "auto", "colours in compact output: auto, always, never (auto: at a terminal, unless NO_COLOR is set)")
	complete(c, "color", "auto", "always", "never")
	outputFlag(c, &f.output, "compact", "table", "json", "jsonpb")
	a.addFilterFlags(c, &f.filter)
	return c
}

func (a *app) observe(ctx context.Context, f *observeFlags, lastGiven bool) error {
	if err := errors.Join(oneOf("output", f.output, "compact", "table", "json", "jsonpb"),
		oneOf("color", f.color, "auto", "always", "never")); err != nil {
		return err
	}
	req, err := a.request(f, lastGiven)
	if err != nil {
		return err
	}
	agents, err := a.fleet(ctx)
	if err != nil {
		return err
	}
	p := a.printer(f, agents.agents)
	if f.follow {
		return a.follow(ctx, agents, req, p)
	}
	return a.observeAll(ctx, agents, req, p)
}

// request says what is wanted. Without --last and --since it is the newest few;
// following then begins now.
func (a *app) request(f *observeFlags, lastGiven bool) (*agentv1.ObserveFlowsRequest, error) {
	req := &agentv1.ObserveFlowsRequest{Follow: f.follow, Last: f.last}
	switch {
	case f.since != "":
		since, err := parseSince(f.since, a.env.Now())
		if err != nil {
			return nil, err
		}
		req.Since = timestamppb.New(since)
	case lastGiven:
	case f.follow:
		req.Since = timestamppb.New(a.env.Now())
	default:
		req.Last = defaultLast
	}
	var err error
	req.Include, req.Exclude, err = f.filter.filters()
	return req, err
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, usagef("--since %q: want a duration such as 5m or a time such as 2026-01-02T15:04:05Z", s)
	}
	return at, nil
}

// printer writes messages in one form.
type printer struct {
	flow func(*agentv1.Flow) error
	lost func(*agentv1.ObserveFlowsResponse) error
	end  func() error // after the last one
}

func (p printer) event(e *event) error {
	if f := e.msg.GetFlow(); f != nil {
		return p.flow(f)
	}
	return p.lost(e.msg)
}

func (a *app) printer(f *observeFlags, agents []*client.Agent) printer {
	out := a.env.Stdout
	style := render.Style{Location: a.env.Location, Color: f.color == "always" ||
		f.color == "auto" && a.env.Terminal && a.env.Getenv("NO_COLOR") == ""}
	if len(agents) > 1 {
		for _, agent := range agents {
			style.NodeWidth = max(style.NodeWidth, len(agent.Node))
		}
	}
	p := printer{
		flow: func(f *agentv1.Flow) error { _, err := fmt.Fprintln(out, style.Compact(f)); return err },
		lost: func(m *agentv1.ObserveFlowsResponse) error {
			at := ""
			if m.GetNode() != "" {
				at = " on node " + m.GetNode()
			}
			_, err := fmt.Fprintf(a.env.Stderr, "weft: %d flows were lost%s: they came faster than they could be read\n", m.GetLost(), at)
			return err
		},
		end: func() error { return nil },
	}
	switch f.output {
	case "json":
		p.flow = func(f *agentv1.Flow) error { return render.JSONLine(out, f) }
	case "jsonpb":
		p.flow = func(f *agentv1.Flow) error {
			return render.JSONLine(out, &agentv1.ObserveFlowsResponse{Response: &agentv1.ObserveFlowsResponse_Flow{Flow: f}, Node: f.GetNode()})
		}
		p.lost = func(m *agentv1.ObserveFlowsResponse) error { return render.JSONLine(out, m) }
	case "table":
		p.flow, p.end = tablePrinter(out, style, f.follow)
	}
	return p
}

// tablePrinter aligns a table that ends by its widest cells; one that goes on has
// fixed columns.
func tablePrinter(out io.Writer, style render.Style, follow bool) (flow func(*agentv1.Flow) error, end func() error) {
	if !follow {
		var rows [][]string
		return func(f *agentv1.Flow) error { rows = append(rows, style.FlowCells(f)); return nil },
			func() error { return render.Table(out, style.FlowHeader(), rows) }
	}
	headed := false
	return func(f *agentv1.Flow) error {
		if !headed {
			headed = true
			if err := style.GrowingRow(out, style.FlowHeader()); err != nil {
				return err
			}
		}
		return style.GrowingRow(out, style.FlowCells(f))
	}, func() error { return nil }
}
