// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/metrics"
)

const (
	// askFor bounds one question to the API server, and so how long an agent that
	// knows its ranges from before waits for one that is away.
	askFor = 3 * time.Second
	// askAgain is the time between two.
	askAgain = time.Second
)

// nodeFile is what a node of a cluster remembers of itself, for an agent that starts
// while the API server is away.
type nodeFile struct {
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
}

func (a *agent) nodePath() string { return filepath.Join(a.cfg.StateDir, "node.json") }

// podRanges are those that this node's pods have addresses of: on a plain host the
// configured ones. In a cluster they are in the WeftNode; a node that had them once
// goes on with those while the API server is away, a new one waits.
func (a *agent) podRanges(ctx context.Context) ([]netip.Prefix, error) {
	if !a.cfg.Kubernetes.Enabled {
		return a.cfg.PodCIDRs, nil
	}
	known, err := a.knownRanges()
	if err != nil {
		return nil, err
	}
	stop, err := a.serveWaiting()
	if err != nil {
		return nil, err
	}
	defer stop()
	for said := false; ; said = true {
		ranges, err := a.askRanges(ctx)
		switch {
		case err == nil:
			return ranges, a.rememberRanges(known, ranges)
		case known != nil:
			a.log.Warn("the node's pod ranges are those it had before", "podCIDRs", known, "reason", err)
			return known, nil
		case !said:
			a.log.Info("waiting for the operator to give this node its pod ranges", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

func (a *agent) knownRanges() ([]netip.Prefix, error) {
	data, err := os.ReadFile(a.nodePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the node's pod ranges: %w", err)
	}
	var f nodeFile
	if err := json.Unmarshal(data, &f); err != nil {
		a.log.Warn("the file of the node's pod ranges is damaged and not used", "file", a.nodePath(), "error", err)
		return nil, nil
	}
	return f.PodCIDRs, nil
}

func (a *agent) rememberRanges(known, ranges []netip.Prefix) error {
	if slices.Equal(known, ranges) {
		return nil
	}
	data, err := json.Marshal(nodeFile{PodCIDRs: ranges})
	if err != nil {
		return fmt.Errorf("writing the node's pod ranges: %w", err)
	}
	return attachment.WriteFile(a.nodePath(), data, 0o600)
}

func (a *agent) askRanges(ctx context.Context) ([]netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	obj, err := a.client.Nodes.Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading WeftNode %s: %w", a.cfg.NodeName, k8s.Short(err))
	}
	node, errs := k8s.NodeFrom(obj)
	if f := k8s.NewFault("WeftNode", "", obj.Name, errs); f != nil {
		return nil, f
	}
	if len(node.PodCIDRs) == 0 {
		return nil, fmt.Errorf("WeftNode %s has no podCIDRs yet", obj.Name)
	}
	return node.PodCIDRs, nil
}

// followRanges ends the agent when the node gets other ranges: the next one begins
// with those.
func (a *agent) followRanges(ctx context.Context) error {
	for {
		nodes, known, changed := a.tables.Nodes()
		for _, n := range nodes {
			if !known || n.Name != a.cfg.NodeName || len(n.PodCIDRs) == 0 || slices.Equal(n.PodCIDRs, a.ranges) {
				continue
			}
			if err := a.rememberRanges(a.ranges, n.PodCIDRs); err != nil {
				return err
			}
			return fmt.Errorf("this node's pod ranges have changed from %v to %v; the agent begins anew", a.ranges, n.PodCIDRs)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// rangesStatus is the line of the node's pod ranges in weft status.
func (a *agent) rangesStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "pod ranges", Health: agentv1.Health_HEALTH_OK, Message: "are part of clusterCIDRs"}
	if err := k8s.Outside(a.ranges, a.cfg.ClusterCIDRs); err != nil {
		out.Health, out.Message = agentv1.Health_HEALTH_DEGRADED, err.Error()
	}
	return out
}

// serveWaiting answers on metricsAddress that the agent lives and is not ready, until
// stop is called.
func (a *agent) serveWaiting() (stop func(), err error) {
	if a.cfg.MetricsAddress == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", a.cfg.MetricsAddress)
	if err != nil {
		return nil, fmt.Errorf("listening on metricsAddress: %w", err)
	}
	srv := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: metrics.Handler(metrics.NewRegistry(), metrics.Health{
		Alive: func() error { return nil },
		Ready: func() error { return errors.New("waiting for the node's pod ranges") },
	}, a.log)}
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("serving /healthz", "error", err)
		}
	}()
	return func() { srv.Close(); <-done }, nil
}
