// SPDX-License-Identifier: Apache-2.0

// Package events tells the life of a node as events of every kind, each object's
// in its own order, for tests that mix the orders of different objects: whatever
// the mixture, the kernel must end up with the same maps.
package events

import (
	_ "embed"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/manifest"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// Manifests are the objects' stories: parts that begin with "=== object", in each
// of them states that are parted by "---"; an empty state is a deletion.
//
//go:embed manifests.yaml
var manifests string

// Node is the node that events happen to.
type Node struct {
	Tables *state.Tables
	// Identify writes the identities that the pods of the tables need, and more.
	Identify func(more []model.Identity) error
	// Single tells the tables only what changes, as a watch does, once they have the
	// source's first whole word.
	Single bool
	// Device is the host-side device of the i'th attachment.
	Device func(i int) (index uint32, name string)

	objects map[string]manifest.Object
	cluster cluster
}

// Event is one thing that happens.
type Event struct {
	Name string
	Do   func(*Node) error
}

// Stories are all events, by object, in each object's order.
func Stories() ([][]Event, error) {
	var out [][]Event
	for _, part := range strings.Split(manifests, "\n=== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		story, err := objectStory(name, text)
		if err != nil {
			return nil, err
		}
		out = append(out, story)
	}
	out = append(out, attachments()...)
	out = append(out, clusterStories()...)
	return append(out, hostAddresses()), nil
}

// Mix is all events of the stories in a random order, in which each story keeps
// its own.
func Mix(random *rand.Rand, stories [][]Event) []Event {
	var turns []int
	for i, s := range stories {
		for range s {
			turns = append(turns, i)
		}
	}
	random.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	out, next := make([]Event, len(turns)), make([]int, len(stories))
	for n, i := range turns {
		out[n] = stories[i][next[i]]
		next[i]++
	}
	return out
}

func objectStory(name, text string) ([]Event, error) {
	var out []Event
	for i, body := range strings.Split(text, "---\n") {
		event := Event{Name: fmt.Sprintf("%s, state %d", name, i)}
		if strings.TrimSpace(body) == "" {
			event.Name = fmt.Sprintf("%s, deleted", name)
			event.Do = func(n *Node) error { return n.set(name, nil) }
			out = append(out, event)
			continue
		}
		objects, problems := manifest.Decode(name+".yaml", []byte(body))
		if len(problems) > 0 || len(objects) != 1 {
			return nil, fmt.Errorf("%s: %v", event.Name, problems)
		}
		event.Do = func(n *Node) error { return n.set(name, &objects[0]) }
		out = append(out, event)
	}
	return out, nil
}

// set changes one object, or removes it, and tells the tables.
func (n *Node) set(name string, o *manifest.Object) error {
	if n.objects == nil {
		n.objects = make(map[string]manifest.Object)
	}
	var changed state.Changes
	if o == nil {
		forget(&changed.Gone, n.objects[name])
		delete(n.objects, name)
	} else {
		n.objects[name] = *o
		changed.Put = sourceOf(*o)
	}
	all := sourceOf(slices.Collect(maps.Values(n.objects))...)
	all.Nodes, all.NodeSlices = slices.Clone(n.cluster.nodes), slices.Clone(n.cluster.slices)
	var err error
	if n.Single && n.Tables.Synced() {
		_, err = n.Tables.Apply(changed)
	} else {
		_, err = n.Tables.ReplaceSource(all)
	}
	if err != nil {
		return err
	}
	return n.Identify(n.cluster.identities)
}

func sourceOf(objects ...manifest.Object) state.Source {
	var s manifest.State
	for _, o := range objects {
		s.Add(o)
	}
	return state.Source{Pods: s.Pods, Namespaces: s.Namespaces, Services: s.Services,
		EndpointSlices: s.EndpointSlices, Policies: s.Policies}
}

func forget(g *state.Gone, o manifest.Object) {
	switch v := o.Value.(type) {
	case model.Pod:
		g.Pods = append(g.Pods, v.PodKey)
	case model.Namespace:
		g.Namespaces = append(g.Namespaces, v.Name)
	case model.Service:
		g.Services = append(g.Services, v.ServiceKey)
	case model.EndpointSlice:
		g.EndpointSlices = append(g.EndpointSlices, v.EndpointSliceKey)
	case []model.Policy:
		g.Policies = append(g.Policies, v[0].Key)
	}
}

// attach is a CNI ADD of a pod, the number'th in all, to an address; slot and
// device go with the address.
func attach(number int, pod string, addr int) Event {
	return Event{Name: fmt.Sprintf("CNI ADD %d of %s to address %d", number, pod, addr), Do: func(n *Node) error {
		ns, name, _ := strings.Cut(pod, "/")
		e := model.Endpoint{
			ID: uint32(number), Slot: uint16(addr), Pod: model.PodKey{Namespace: ns, Name: name},
			ContainerID: fmt.Sprint("c", number), IfName: "eth0", MTU: 1500, State: model.EndpointReady,
			MAC: model.MAC{2, 0, 0, 0, 0, byte(number)}, HostMAC: model.MAC{2, 0, 0, 1, 0, byte(number)},
			IPv4: netip.AddrFrom4([4]byte{10, 244, 0, byte(addr)}),
			IPv6: netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(addr)}),
		}
		e.HostIfIndex, e.HostIfName = n.Device(addr)
		_, err := n.Tables.UpsertEndpoint(e)
		return err
	}}
}

func detach(number int) Event {
	return Event{Name: fmt.Sprintf("CNI DEL %d", number), Do: func(n *Node) error {
		if _, err := n.Tables.DeleteEndpoint(uint32(number)); err != nil {
			return err
		}
		return n.Identify(n.cluster.identities) // a pod that was deleted before goes with it
	}}
}

// Addresses is how many there are to attach pods to.
const Addresses = 5

// attachments are the stories of addresses: some pass from pod to pod.
func attachments() [][]Event {
	return [][]Event{
		{attach(1, "demo/web-1", 1)},
		{attach(2, "demo/web-2", 2), detach(2), attach(12, "demo/client", 2)},
		{attach(3, "demo/client", 3), detach(3)},
		{attach(4, "shop/till", 4), detach(4), attach(14, "shop/till", 4), detach(14), attach(24, "demo/web-1", 4)},
		{attach(5, "shop/till", 5)},
	}
}

func hostAddresses() []Event {
	var out []Event
	for _, list := range [][]string{{"192.0.2.1"}, {"192.0.2.1", "203.0.113.7", "2001:db8::7"}, {"203.0.113.7", "2001:db8::7"}} {
		addrs := make([]netip.Addr, len(list))
		for i, a := range list {
			addrs[i] = netip.MustParseAddr(a)
		}
		out = append(out, Event{Name: "host has " + strings.Join(list, ", "), Do: func(n *Node) error {
			_, err := n.Tables.ReplaceHostAddrs(slices.Clone(addrs))
			return err
		}})
	}
	return out
}
