// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/cluster"
)

// How long things may take.
const (
	settleIn = 8 * time.Second        // until all checks of a step hold
	again    = 100 * time.Millisecond // between two tries
	execIn   = 10 * time.Second       // to run probes in a pod, beside what they take
	clearIn  = 60 * time.Second       // to remove what was made
)

// Config is what a run needs.
type Config struct {
	Cluster  *cluster.Cluster
	Agents   []*client.Agent // of all nodes: who is asked for flows
	Nodes    []string        // to put pods on; empty: two that take pods
	External string          // host:port outside the cluster; empty: none
	Tests    []string        // names; empty: all
	Keep     bool            // leave what was made
	Ready    time.Duration   // how long pods may take to be ready
	Tell     func(string)    // progress, a sentence each
	Report   func(Result)    // each result, as it comes
}

// Status of a check.
const (
	OK      = "ok"
	Failed  = "failed"
	Skipped = "skipped"
)

// Result is what became of one check.
type Result struct {
	Test     string  `json:"test"`
	Check    string  `json:"check,omitempty"`
	Status   string  `json:"status"`
	Expected string  `json:"expected,omitempty"`
	Happened string  `json:"happened,omitempty"` // or why it was skipped
	Hint     string  `json:"hint,omitempty"`
	Seconds  float64 `json:"seconds"` // of the slowest call

	variant    string
	unresolved bool // a name was not
}

// runner does one run.
type runner struct {
	Config
	stage *stage
	bare  []string // nodes without an agent, as sentences
}

// testRun is a test under way.
type testRun struct {
	test  Test
	begun time.Time
	made  []made // objects that are there now
}

// Run does the tests. An error is of what could not be tried; what was tried and is
// not as it should be is in the results.
func Run(ctx context.Context, cfg Config) (err error) {
	r := &runner{Config: cfg}
	nodes, err := r.chooseNodes(ctx)
	if err != nil {
		return err
	}
	r.stage = newStage(cfg.Cluster, nodes, cfg.External)
	left, err := r.stage.vacant(ctx)
	if err != nil {
		return err
	}
	if left {
		r.Tell("removing what an earlier run left")
		if err := r.clear(ctx); err != nil {
			return err
		}
	}
	if !cfg.Keep {
		defer func() {
			r.Tell("removing what was made")
			if clearErr := r.clear(context.WithoutCancel(ctx)); err == nil {
				err = clearErr
			}
		}()
	}
	if err := r.standing(ctx); err != nil {
		return err
	}
	if err := r.setUp(ctx); err != nil {
		return err
	}
	for _, test := range Tests() {
		if len(cfg.Tests) > 0 && !slices.Contains(cfg.Tests, test.Name) {
			continue
		}
		if err := r.run(ctx, test); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clearIn)
	defer cancel()
	return r.stage.clear(ctx)
}

func (r *runner) setUp(ctx context.Context) error {
	r.Tell(fmt.Sprintf("making %d pods in the namespaces %s and %s", len(r.stage.pods()), namespace, namespace2))
	within, cancel := context.WithTimeout(ctx, r.Ready)
	defer cancel()
	if err := r.stage.build(within); err != nil {
		return err
	}
	for _, p := range r.stage.pods() {
		result := Result{Test: "setup", Check: "pod " + p.key() + " on node " + p.Node + " is ready", Status: OK}
		if p.Fault != "" {
			result.Status, result.Expected, result.Happened = Failed, "it is ready within "+r.Ready.String(), p.Fault
		}
		r.Report(result)
	}
	return ctx.Err()
}

func (r *runner) run(ctx context.Context, test Test) error {
	if test.skip != nil {
		if why := test.skip(r.stage); why != "" {
			r.Report(Result{Test: test.Name, Status: Skipped, Happened: why})
			return nil
		}
	}
	t := &testRun{test: test, begun: time.Now()}
	defer r.unmake(context.WithoutCancel(ctx), t) //nolint:errcheck // the namespaces go, too
	for _, s := range test.steps(r.stage) {
		if s.restore {
			if err := r.unmake(ctx, t); err != nil {
				return err
			}
		}
		begun := time.Now()
		for _, o := range s.objects {
			if err := r.make(ctx, t, o); err != nil {
				return err
			}
		}
		results := r.settle(ctx, t, s, begun)
		if s.also != nil && ctx.Err() == nil {
			results = append(results, s.also(ctx, r, t)...)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, result := range together(results) {
			r.Report(result)
		}
	}
	return nil
}

// settle tries a step until all its checks hold, or time is up. Where policies were
// just changed they must hold in one and the same try: what is to be allowed is at
// first, too, and must still be when what is to be denied is.
func (r *runner) settle(ctx context.Context, t *testRun, s step, begun time.Time) []Result {
	until := begun.Add(settleIn)
	allAtOnce := len(s.objects) > 0 || s.restore
	results := make([]Result, len(s.checks))
	open := make([]int, len(s.checks))
	for i := range open {
		open[i] = i
	}
	for {
		trying := open
		if allAtOnce {
			trying = trying[:0:0]
			for i := range s.checks {
				trying = append(trying, i)
			}
		}
		r.try(ctx, t, s, trying, results)
		open = nil
		for _, i := range trying {
			if results[i].Status != OK {
				open = append(open, i)
			}
		}
		if len(open) == 0 || !time.Now().Before(until) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	if len(open) > 0 && ctx.Err() == nil {
		r.hint(ctx, s.checks, open, results, begun)
	}
	return results
}

// try makes the calls of one try, those of each caller by one command.
func (r *runner) try(ctx context.Context, t *testRun, s step, trying []int, results []Result) {
	by := make(map[caller][]int)
	for _, i := range trying {
		by[s.checks[i].from] = append(by[s.checks[i].from], i)
	}
	var wg sync.WaitGroup
	for from, which := range by {
		wg.Go(func() {
			var probes []Probe
			for _, i := range which {
				probes = append(probes, s.checks[i].probe)
			}
			outcomes, err := r.probe(ctx, from, probes)
			for n, i := range which {
				results[i] = s.checks[i].result(t.test.Name, s.name)
				switch {
				case err != nil:
					results[i].Status, results[i].Happened = Failed, err.Error()
					results[i].Expected = "a call from " + from.namespace + "/" + from.pod
				default:
					results[i].Seconds = outcomes[n].Took.Seconds()
					if results[i].Expected, results[i].Happened = s.checks[i].judge(outcomes[n]); results[i].Expected != "" {
						results[i].Status = Failed
						results[i].unresolved = outcomes[n].Failure == FailName
					}
				}
			}
		})
	}
	wg.Wait()
}

// result begins one.
func (c check) result(test, step string) Result {
	name := c.name
	if step != "" {
		name += ", " + step
	}
	return Result{Test: test, Check: name, Status: OK, variant: c.variant}
}

// probe runs probes in a pod.
func (r *runner) probe(ctx context.Context, from caller, probes []Probe) ([]Outcome, error) {
	if from.fault != "" {
		return nil, fmt.Errorf("not tried: %s", from.fault)
	}
	longest := time.Duration(0)
	for _, p := range probes {
		longest = max(longest, p.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, longest+execIn)
	defer cancel()
	in, err := json.Marshal(probes)
	if err != nil {
		return nil, err
	}
	pod := cluster.Pod{Namespace: from.namespace, Name: from.pod, Container: from.container}
	out, err := cluster.Run(ctx, r.Cluster.Executor, pod, bytes.NewReader(in), "weft", "connectivity", "probe")
	if err != nil {
		return nil, fmt.Errorf("no command could be run in pod %s/%s: %w", from.namespace, from.pod, err)
	}
	var outcomes []Outcome
	if err := json.Unmarshal(out, &outcomes); err != nil || len(outcomes) != len(probes) {
		return nil, fmt.Errorf("pod %s/%s answered %d of %d probes: %q", from.namespace, from.pod, len(outcomes), len(probes), out)
	}
	return outcomes, nil
}
