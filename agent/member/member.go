// SPDX-License-Identifier: Apache-2.0

// Package member is the agent as a member of a cluster: it takes up what the API
// server says, and tells the other nodes what runs on this one.
package member

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/agent/publish"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/k8s/source"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// Config is what a Member works with.
type Config struct {
	Node   string
	Client *k8s.Client
	Tables *state.Tables
	Engine *engine.Engine
	Log    *slog.Logger
	Failed func(kind string)      // a request for a kind of object has failed
	Report func([]source.Problem) // what is wrong with objects now
	Ready  func() error           // why the node's datapath does not work, or nil
	// Faults are what the node's proxy has against policies: see publish.NodeConfig.
	Faults func() ([]publish.Fault, bool)
	// Avoid has addresses be given out last; nil: none are given out.
	Avoid func([]netip.Addr)
}

// Member is a node's part in its cluster.
type Member struct {
	// Source is how the API server is followed.
	Source *source.Source
	cfg    Config
	slices *publish.Slices
	status *publish.Node
}

// New makes one; its parts do the work.
func New(cfg Config) *Member {
	m := &Member{cfg: cfg}
	m.Source = source.New(source.Config{Client: cfg.Client, Node: cfg.Node,
		Log: cfg.Log.With("part", "kubernetes"), Failed: cfg.Failed}, m)
	changed := cfg.Engine.Realized().Changed
	m.slices = publish.New(publish.Config{
		Node: cfg.Node, Slices: cfg.Client.NodeSlices, Nodes: cfg.Client.Nodes, Log: cfg.Log.With("part", "slices"),
		Pods: m.podsToTell, Held: m.ownSlices, Changed: changed,
	})
	m.status = publish.NewNode(publish.NodeConfig{
		Node: cfg.Node, Nodes: cfg.Client.Nodes, Version: weft.Version(), Log: cfg.Log.With("part", "status"),
		Ready: cfg.Ready, Faults: cfg.Faults, Changed: changed,
	})
	return m
}

// Parts are what is to run, by name, each until its context ends.
func (m *Member) Parts() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{"kubernetes": m.Source.Run, "slices": m.slices.Run, "status": m.status.Run}
}

// Apply implements source.Consumer. Addresses that other nodes have been told are of pods
// here are not soon another pod's, also where no record tells of them: the node's disk
// may be lost. Pods come after their objects are in the tables.
func (m *Member) Apply(c state.Changes) error {
	if c.Synced && m.cfg.Avoid != nil {
		m.cfg.Avoid(addressesOf(m.cfg.Node, c.Put.NodeSlices))
	}
	_, err := m.cfg.Tables.Apply(c)
	return err
}

func addressesOf(node string, slices []model.NodeSlice) (all []netip.Addr) {
	for _, s := range slices {
		if s.Node != node {
			continue
		}
		for _, e := range s.Endpoints {
			for _, addr := range []netip.Addr{e.IPv4, e.IPv6} {
				if addr.IsValid() {
					all = append(all, addr)
				}
			}
		}
	}
	return all
}

// Report implements source.Consumer.
func (m *Member) Report(list []source.Problem) { m.cfg.Report(list) }

// podsToTell are the endpoints that are in the kernel, and that it has an identity
// for, and the pods that are not attached. It is not known while an agent that starts
// brings its first state to the kernel: what the one before has told of them stands.
func (m *Member) podsToTell() ([]model.NodeEndpoint, bool) {
	if tried, _ := m.cfg.Engine.Realized().Revisions(); tried == 0 {
		return nil, false
	}
	view := m.cfg.Engine.View()
	var all []publish.Attached
	for _, e := range view.Endpoints {
		st, _ := m.cfg.Engine.Realized().Endpoint(e.ID)
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
func (m *Member) ownSlices() []model.NodeSlice { return m.cfg.Tables.NodeSlicesOf(m.cfg.Node) }
