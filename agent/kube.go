// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"k8s.io/klog/v2"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/agent/member"
	"github.com/weftmesh/weft/agent/nodenet"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/k8s/source"
	"github.com/weftmesh/weft/pkg/model"
)

// newClient makes the client of the API server. What its library would log is left
// out: the parts that use it tell their errors themselves.
func newClient(cfg config.Kubernetes) (*k8s.Client, error) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	rest, err := k8s.Config(cfg.Kubeconfig, "weft-agent/"+weft.Version())
	if err != nil {
		return nil, err
	}
	return k8s.NewClient(rest)
}

// kubernetesInput is the input of a node of a cluster.
func (a *agent) kubernetesInput() input {
	m := member.New(member.Config{
		Node: a.cfg.NodeName, Client: a.client, Tables: a.tables, Engine: a.engine, Log: a.log, Failed: a.metrics.KubernetesFailure,
		Report: a.reportObjects, Ready: func() error { return a.proof.ready() }, Faults: a.proxyFaults,
		Avoid: func(addrs []netip.Addr) { a.pods.records.Avoid(addrs) },
	})
	a.proof = &proof{waiting: m.Source.Waiting, realized: a.engine.Realized(), dp: a.dp, tables: a.tables}
	if a.tunnel != nil {
		a.proof.tunnel = a.tunnel.Ready
	}
	in := input{
		name: "kubernetes", waiting: m.Source.Waiting, ready: a.proof.ready, watchPod: a.tables.WatchPod,
		restore:    func(context.Context) error { return nil },
		parts:      m.Parts(),
		components: []func() *agentv1.ComponentStatus{a.problems.status(kubernetesEnding(m.Source)), a.rangesStatus, a.slicesStatus},
	}
	in.parts["pod ranges"] = a.followRanges
	if a.proxy != nil {
		in.parts["proxy faults"] = a.followProxyFaults
	}
	if a.tunnel == nil { // which has routes of its own
		routes := nodenet.NewNodeRoutes(a.cfg.NodeName, a.tables.Nodes, a.log.With("part", "routes"))
		in.parts["routes"] = routes.Run
		in.components = append(in.components, routesStatus(routes))
	}
	return in
}

// reportObjects keeps what is wrong with objects of the API server.
func (a *agent) reportObjects(list []source.Problem) {
	out := make([]fault, len(list))
	for i, p := range list {
		out[i] = fault{text: p.String(), effect: p.Effect(), source: "kubernetes", what: p.Short(),
			object: model.PolicyKey{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}}
	}
	a.problems.set(out)
}

// kubernetesEnding is the line of weft status without faults in objects.
func kubernetesEnding(src *source.Source) func() (name, message string, err error) {
	return func() (string, string, error) {
		if err := src.Outage(); err != nil {
			return "kubernetes", "", fmt.Errorf("the API server cannot be heard, what it said last stays in force: %w", err)
		}
		if w := src.Waiting(); w != "" {
			return "kubernetes", "", fmt.Errorf("%s", w)
		}
		return "kubernetes", "the API server is followed", nil
	}
}

func routesStatus(r *nodenet.NodeRoutes) func() *agentv1.ComponentStatus {
	return func() *agentv1.ComponentStatus {
		out := &agentv1.ComponentStatus{Name: "routes", Health: agentv1.Health_HEALTH_OK, Message: r.Describe()}
		if faults := r.Faults(); len(faults) > 0 {
			out.Health = agentv1.Health_HEALTH_DEGRADED
			out.Message = fmt.Sprintf("%s; %s", countOf(len(faults), "fault"), faults[0])
		}
		return out
	}
}

// slicesStatus is the line of what other nodes say of their pods.
func (a *agent) slicesStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "slices", Health: agentv1.Health_HEALTH_OK, Message: "each speaks for its own node's pods"}
	now, _ := a.tables.Snapshot()
	faults := engine.ForeignClaims(engine.Node{Name: a.cfg.NodeName, ClusterCIDRs: a.cfg.ClusterCIDRs}, now)
	if len(faults) > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = fmt.Sprintf("%s with claims to addresses of others, which do not count: %s", countOf(len(faults), "slice"), faults[0])
	}
	return out
}

// familyRanges are the ranges by family.
func familyRanges(all []netip.Prefix) (v4, v6 netip.Prefix) {
	for _, p := range all {
		if p.Addr().Is4() {
			v4 = p
		} else {
			v6 = p
		}
	}
	return v4, v6
}
