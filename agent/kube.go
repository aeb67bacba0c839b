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
	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/agent/publish"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/k8s/source"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
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
	src := source.New(source.Config{Client: a.client, Node: a.cfg.NodeName,
		Log: a.log.With("part", "kubernetes"), Failed: a.metrics.KubernetesFailure},
		kubernetesSink{tables: a.tables, problems: a.problems})
	slices := publish.New(publish.Config{
		Node: a.cfg.NodeName, Slices: a.client.NodeSlices, Nodes: a.client.Nodes, Log: a.log.With("part", "slices"),
		Pods: a.podsToTell, Held: a.ownSlices, Changed: a.engine.Realized().Changed,
	})
	a.proof = &proof{waiting: src.Waiting, realized: a.engine.Realized(), dp: a.dp, tables: a.tables}
	if a.tunnel != nil {
		a.proof.tunnel = a.tunnel.Ready
	}
	status := publish.NewNode(publish.NodeConfig{
		Node: a.cfg.NodeName, Nodes: a.client.Nodes, Version: weft.Version(), Log: a.log.With("part", "status"),
		Ready: a.proof.ready, Changed: a.engine.Realized().Changed,
	})
	in := input{
		name: "kubernetes", waiting: src.Waiting, ready: a.proof.ready, watchPod: a.tables.WatchPod,
		restore: func(context.Context) error { return nil },
		parts: map[string]func(context.Context) error{
			"kubernetes": src.Run, "slices": slices.Run, "status": status.Run, "pod ranges": a.followRanges,
		},
		components: []func() *agentv1.ComponentStatus{a.problems.status(kubernetesEnding(src)), a.rangesStatus, a.slicesStatus},
	}
	if a.tunnel == nil { // which has routes of its own
		routes := nodenet.NewNodeRoutes(a.cfg.NodeName, a.tables.Nodes, a.log.With("part", "routes"))
		in.parts["routes"] = routes.Run
		in.components = append(in.components, routesStatus(routes))
	}
	return in
}

// kubernetesSink writes what the API server says into the tables.
type kubernetesSink struct {
	tables   *state.Tables
	problems *problems
}

// Apply implements source.Consumer.
func (s kubernetesSink) Apply(c state.Changes) error {
	_, err := s.tables.Apply(c)
	return err
}

// Report implements source.Consumer.
func (s kubernetesSink) Report(list []source.Problem) {
	out := make([]fault, len(list))
	for i, p := range list {
		out[i] = fault{text: p.String(), effect: p.Effect(), source: "kubernetes", what: p.Short(),
			object: model.PolicyKey{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}}
	}
	s.problems.set(out)
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

// podsToTell are the endpoints that are in the kernel, and that it has an identity
// for, and the pods that are not attached.
func (a *agent) podsToTell() ([]model.NodeEndpoint, bool) {
	view := a.engine.View()
	if view.Revision == 0 {
		return nil, false
	}
	var all []publish.Attached
	for _, e := range view.Endpoints {
		st, _ := a.engine.Realized().Endpoint(e.ID)
		if st.Revision == 0 || !e.Identity.ID.IsCluster() {
			continue
		}
		all = append(all, publish.Attached{Number: e.ID, NodeEndpoint: toTell(e)})
	}
	for _, u := range view.Unmanaged {
		all = append(all, publish.Attached{NodeEndpoint: u})
	}
	return publish.Newest(all), true
}

func toTell(e engine.EndpointView) model.NodeEndpoint {
	return model.NodeEndpoint{Pod: e.Pod, Identity: e.Identity.ID, IPv4: e.IPv4, IPv6: e.IPv6, Ports: e.Ports, Workload: e.Owner}
}

// ownSlices are this node's slices as the API server holds them.
func (a *agent) ownSlices() []model.NodeSlice { return a.tables.NodeSlicesOf(a.cfg.NodeName) }

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
