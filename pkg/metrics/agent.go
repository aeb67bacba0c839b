// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// NewRegistry makes a registry that has the process's and Go's own metrics.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Agent counts what happens in the agent. What is a state, not an event, is read
// from Sources at every scrape.
type Agent struct {
	registry *prometheus.Registry
	errors   *prometheus.CounterVec
	drift    *prometheus.CounterVec
	api      *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewAgent registers the agent's metrics; the registry must be new to them.
func NewAgent(reg *prometheus.Registry, version string) *Agent {
	a := &Agent{
		registry: reg,
		errors:   counterVec(reconcileErrors), drift: counterVec(reconcileDrift), requests: counterVec(requests),
		api: counterVec(kubernetesFailures),
	}
	d := definition(requestSeconds)
	a.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: d.Name, Help: d.Help, Buckets: prometheus.ExponentialBuckets(0.001, 4, 8), // 1 ms to 16 s
	}, d.Labels)
	build := definition(buildInfo)
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: build.Name, Help: build.Help}, build.Labels)
	info.WithLabelValues(version).Set(1)
	reg.MustRegister(a.errors, a.drift, a.api, a.requests, a.seconds, info)
	return a
}

func counterVec(name string) *prometheus.CounterVec {
	d := definition(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
}

// Watch has the state read from sources at every scrape. Call it once.
func (a *Agent) Watch(sources Sources) {
	a.registry.MustRegister(newCollector(sources))
}

// ReconcileErrors counts n rows of a kind that could not be written.
func (a *Agent) ReconcileErrors(kind string, n int) { a.errors.WithLabelValues(kind).Add(float64(n)) }

// Drift counts n rows of a kind that the kernel held otherwise than written.
func (a *Agent) Drift(kind string, n int) { a.drift.WithLabelValues(kind).Add(float64(n)) }

// KubernetesFailure counts a list or watch of a kind that failed.
func (a *Agent) KubernetesFailure(kind string) { a.api.WithLabelValues(kind).Inc() }

// CountRequests is a gRPC interceptor for the agent's sockets.
func (a *Agent) CountRequests(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	start := time.Now()
	resp, err := handle(ctx, req)
	method := path.Base(info.FullMethod)
	a.requests.WithLabelValues(method, status.Code(err).String()).Inc()
	a.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	return resp, err
}
