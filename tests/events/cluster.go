// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// Numbers of the identities of other nodes' pods.
const (
	remoteWeb model.IdentityID = 1<<20 + iota
	remoteClient
	remoteGone
)

// cluster is what is there of other nodes.
type cluster struct {
	identities []model.Identity
	nodes      []model.ClusterNode
	slices     []model.NodeSlice
}

// clusterStories are those of other nodes, of their pods, and of the identities that
// those have. Addresses pass from pod to pod and from node to node, and identities
// come before or after the pods that have them.
func clusterStories() [][]Event {
	return [][]Event{
		{identity(remoteWeb, "web")},
		{identity(remoteClient, "client")},
		{identity(remoteGone, "gone"), noIdentity(remoteGone)},
		{node("far", "10.244.7.0/24", "192.0.2.77", "2001:db8::77"), node("far", "10.244.7.0/24", "192.0.2.78"), noNode("far"),
			node("far", "10.244.8.0/24", "192.0.2.77", "192.0.2.1")},
		{node("away", "10.244.9.0/24", "192.0.2.79"), noNode("away")},
		{nodeSlice("far-a", "far", pod("r1", remoteWeb, "10.244.7.1"), pod("r2", remoteClient, "10.244.7.2")),
			nodeSlice("far-a", "far", pod("r1", remoteClient, "10.244.7.1"), pod("r3", remoteGone, "10.244.7.2")),
			nodeSlice("far-a", "far", pod("r1", remoteWeb, "10.244.8.1"))},
		{nodeSlice("far-b", "far", pod("r4", remoteGone, "10.244.8.1")), noNodeSlice("far-b"),
			nodeSlice("far-b", "far", pod("r5", remoteClient, "10.244.8.5"), pod("r6", remoteWeb, "10.244.0.1"))},
		{nodeSlice("away-a", "away", pod("r7", remoteClient, "10.244.8.1"), pod("r8", remoteWeb, "10.244.9.9")), noNodeSlice("away-a")},
	}
}

func identity(id model.IdentityID, app string) Event {
	label := func(key, value string) model.Label {
		return model.Label{Source: model.SourceK8s, Key: key, Value: value}
	}
	return Event{Name: fmt.Sprintf("identity %d", id), Do: func(n *Node) error {
		n.cluster.identities = append(n.cluster.identities, model.Identity{ID: id, Labels: model.NewLabels(
			label("app", app), label(model.LabelNamespace, "demo"), label("place", "elsewhere"))})
		return n.Identify(n.cluster.identities)
	}}
}

func noIdentity(id model.IdentityID) Event {
	return Event{Name: fmt.Sprintf("identity %d deleted", id), Do: func(n *Node) error {
		n.cluster.identities = slices.DeleteFunc(n.cluster.identities, func(i model.Identity) bool { return i.ID == id })
		return n.Identify(n.cluster.identities)
	}}
}

func node(name, podRange string, addrs ...string) Event {
	out := model.ClusterNode{Name: name, PodCIDRs: []netip.Prefix{netip.MustParsePrefix(podRange)}}
	for _, a := range addrs {
		out.Addrs = append(out.Addrs, netip.MustParseAddr(a))
	}
	return Event{Name: "node " + name + " with " + podRange, Do: func(n *Node) error {
		n.cluster.dropNode(name)
		n.cluster.nodes = append(n.cluster.nodes, out)
		_, err := n.Tables.Apply(state.Changes{Put: state.Source{Nodes: []model.ClusterNode{out}}})
		return err
	}}
}

func noNode(name string) Event {
	return Event{Name: "node " + name + " deleted", Do: func(n *Node) error {
		n.cluster.dropNode(name)
		_, err := n.Tables.Apply(state.Changes{Gone: state.Gone{Nodes: []string{name}}})
		return err
	}}
}

func (c *cluster) dropNode(name string) {
	c.nodes = slices.DeleteFunc(c.nodes, func(n model.ClusterNode) bool { return n.Name == name })
}

func pod(name string, id model.IdentityID, addr string) model.NodeEndpoint {
	return model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: name}, Identity: id, IPv4: netip.MustParseAddr(addr),
		Ports: []model.NamedPort{{Name: "http", Protocol: model.ProtoTCP, Port: uint16(9000 + id%10)}}}
}

func nodeSlice(name, node string, pods ...model.NodeEndpoint) Event {
	slice := model.NodeSlice{Name: name, Node: node, Endpoints: pods}
	return Event{Name: fmt.Sprintf("slice %s with %d pods", name, len(pods)), Do: func(n *Node) error {
		n.cluster.dropSlice(name)
		n.cluster.slices = append(n.cluster.slices, slice)
		_, err := n.Tables.Apply(state.Changes{Put: state.Source{NodeSlices: []model.NodeSlice{slice}}})
		return err
	}}
}

func noNodeSlice(name string) Event {
	return Event{Name: "slice " + name + " deleted", Do: func(n *Node) error {
		n.cluster.dropSlice(name)
		_, err := n.Tables.Apply(state.Changes{Gone: state.Gone{NodeSlices: []string{name}}})
		return err
	}}
}

func (c *cluster) dropSlice(name string) {
	c.slices = slices.DeleteFunc(c.slices, func(s model.NodeSlice) bool { return s.Name == name })
}
