// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/metrics"
	"github.com/weftmesh/weft/pkg/model"
)

// headerTimeout bounds how long a client of /metrics may take to ask.
const headerTimeout = 5 * time.Second

// metricSources tells the metrics where to read.
func (a *agent) metricSources() metrics.Sources {
	return metrics.Sources{
		Packets: func() ([]metrics.Packets, error) {
			counters, err := a.dp.Counters()
			if err != nil {
				return nil, err
			}
			out := make([]metrics.Packets, len(counters))
			for i, c := range counters {
				out[i] = metrics.Packets{Reason: model.Reason(c.Reason), Direction: c.Direction, Packets: c.Packets, Bytes: c.Bytes}
			}
			return out, nil
		},
		Conntrack: func() (metrics.Conntrack, error) {
			evicted, err := a.dp.EvictedUnanswered()
			if err != nil {
				return metrics.Conntrack{}, err
			}
			t := a.dp.Tracked()
			out := metrics.Conntrack{Answered: t.Answered, Unanswered: t.Unanswered, Translated: t.Translated}
			for _, n := range evicted {
				out.Evicted += n
			}
			return out, nil
		},
		Flows: func() metrics.Flows {
			c := a.flows.Counters()
			return metrics.Flows{Seen: c.Seen, Lost: c.Lost, Malformed: c.Malformed, Stored: c.Stored}
		},
		PairsPushedOut: a.dp.PairsPushedOut,
		Requests:       a.requests.Counts,
		SocketsEnded: func() (map[string]uint64, error) {
			n, err := a.dp.SocketsEnded()
			return map[string]uint64{"tcp": n.TCP, "udp": n.UDP}, err
		},
		State: a.stateForMetrics,
	}
}

func (a *agent) stateForMetrics() metrics.State {
	view := a.engine.View()
	s := metrics.State{
		Desired: a.tables.Revision(), Problems: a.problems.count(),
		Endpoints: map[string]int{}, Identities: map[string]int{}, Policies: map[string]int{}, Failing: map[string]int{},
		Services: map[string]int{"yes": 0, "no": 0}, Rulesets: rulesetStates(view),
	}
	_, s.Realized = a.engine.Realized().Revisions()
	for _, e := range view.Endpoints {
		s.Endpoints[string(e.State)]++
	}
	for _, i := range view.Identities() {
		s.Identities[i.Kind]++
	}
	for _, p := range view.Policies {
		s.Policies[p.Key.Kind]++
	}
	for svc := range view.Services.All() {
		if svc.Reason == "" {
			s.Services["yes"]++
		} else {
			s.Services["no"]++
		}
	}
	for kind, errs := range a.engine.Realized().Failing() {
		s.Failing[kind] = len(errs)
	}
	return s
}

func rulesetStates(view *engine.View) map[string]int {
	retired := len(view.Rulesets.Retired())
	return map[string]int{"in force": view.Rulesets.Len() - retired, "retired": retired, "refused": view.Refused}
}

// alive is what /healthz answers. In a cluster it is that the agent answers: to start
// it anew mends neither an API server that is away nor rows that fail.
func (a *agent) alive() error {
	if a.cfg.Kubernetes.Enabled {
		return nil
	}
	return a.health()
}

// health tells whether the source has been read and the kernel has followed.
func (a *agent) health() error {
	if w := a.input.waiting(); w != "" {
		return errors.New(w)
	}
	var all []string
	for kind, errs := range a.engine.Realized().Failing() {
		all = append(all, fmt.Sprintf("%d of kind %s, such as %v", len(errs), kind, errs[0]))
	}
	if slices.Sort(all); len(all) > 0 {
		return fmt.Errorf("rows are not in the kernel: %s", strings.Join(all, "; "))
	}
	return nil
}

// serveMetrics serves /metrics, /healthz and /readyz until ctx ends.
func (a *agent) serveMetrics(ctx context.Context) error {
	if a.cfg.MetricsAddress == "" {
		return nil
	}
	l, err := net.Listen("tcp", a.cfg.MetricsAddress)
	if err != nil {
		return fmt.Errorf("listening on metricsAddress: %w", err)
	}
	srv := &http.Server{
		Handler:           metrics.Handler(a.registry, metrics.Health{Alive: a.alive, Ready: a.input.ready}, a.log.With("part", "metrics")),
		ReadHeaderTimeout: headerTimeout,
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}
