// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft/pkg/model"
)

// Sources are asked at every scrape, from any goroutine. One that is nil exports
// nothing; one that fails leaves its metrics out and has the scrape report it.
type Sources struct {
	// Packets are the datapath's counters by reason and direction; reason 0 is
	// what passed.
	Packets   func() ([]Packets, error)
	Conntrack func() (Conntrack, error)
	// PairsPushedOut counts pairs of service and backend that found no place in
	// their socket.
	PairsPushedOut func() (uint64, error)
	// SocketsEnded counts sockets that were ended because their backend is gone,
	// by protocol.
	SocketsEnded func() (map[string]uint64, error)
	Flows        func() Flows
	// Requests counts what the proxy told of, by verdict.
	Requests func() map[string]uint64
	State    func() State
}

// Packets is how many packets met one end in one direction.
type Packets struct {
	Reason    model.Reason
	Direction model.Direction
	Packets   uint64
	Bytes     uint64
}

// Conntrack is the fill of the connection tables.
type Conntrack struct {
	Answered   uint64
	Unanswered uint64
	Translated uint64
	Evicted    uint64 // unanswered ones pushed out, ever
}

// Flows is what has passed through the pipeline of flow events.
type Flows struct {
	Seen      map[model.FlowType]uint64
	Lost      uint64
	Malformed uint64
	Stored    uint64
}

// State is what the agent knows and how far the kernel is.
type State struct {
	Desired    model.Revision
	Realized   model.Revision
	Endpoints  map[string]int // by state
	Identities map[string]int // by kind
	Policies   map[string]int // by kind
	Services   map[string]int // by "yes" or "no": is it served
	Rulesets   map[string]int // by "in force", "retired" or "refused"
	Failing    map[string]int // rows, by kind
	Problems   int            // faults in the manifests
}

// collector turns the sources into metrics.
type collector struct {
	sources Sources
	descs   map[string]*prometheus.Desc
	types   map[string]prometheus.ValueType
}

func newCollector(sources Sources) *collector {
	c := &collector{sources: sources, descs: make(map[string]*prometheus.Desc), types: make(map[string]prometheus.ValueType)}
	for _, name := range []string{revisionDesired, revisionRealized, endpoints, identities, policies, manifestProblems,
		reconcileFailing, dropPackets, dropBytes, forwardedPackets, forwardedBytes, conntrackEntries,
		conntrackEvictions, translatedFlows, flowEvents, flowLost, flowMalformed, flowStored,
		services, rulesets, requestEvents, socketPairsOut, socketsDestroyed} {
		d := definition(name)
		c.descs[name] = prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
		c.types[name] = d.Type
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	if c.sources.State != nil {
		c.state(out, c.sources.State())
	}
	if c.sources.Flows != nil {
		c.flows(out, c.sources.Flows())
	}
	if c.sources.Requests != nil {
		counts := c.sources.Requests()
		for _, verdict := range slices.Sorted(maps.Keys(counts)) {
			c.send(out, requestEvents, counts[verdict], verdict)
		}
	}
	if c.sources.Packets != nil {
		all, err := c.sources.Packets()
		c.orInvalid(out, dropPackets, err, func() { c.packets(out, all) })
	}
	if c.sources.PairsPushedOut != nil {
		n, err := c.sources.PairsPushedOut()
		c.orInvalid(out, socketPairsOut, err, func() { c.send(out, socketPairsOut, n) })
	}
	if c.sources.SocketsEnded != nil {
		ended, err := c.sources.SocketsEnded()
		c.orInvalid(out, socketsDestroyed, err, func() {
			for _, protocol := range slices.Sorted(maps.Keys(ended)) {
				c.send(out, socketsDestroyed, ended[protocol], protocol)
			}
		})
	}
	if c.sources.Conntrack != nil {
		ct, err := c.sources.Conntrack()
		c.orInvalid(out, conntrackEntries, err, func() { c.conntrack(out, ct) })
	}
}

func (c *collector) orInvalid(out chan<- prometheus.Metric, name string, err error, write func()) {
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.descs[name], err)
		return
	}
	write()
}

func (c *collector) send(out chan<- prometheus.Metric, name string, value uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(c.descs[name], c.types[name], float64(value), labels...)
}

// sendAll writes one metric by the keys of a map.
func (c *collector) sendAll(out chan<- prometheus.Metric, name string, values map[string]int) {
	for _, label := range slices.Sorted(maps.Keys(values)) {
		c.send(out, name, uint64(values[label]), label)
	}
}

func (c *collector) state(out chan<- prometheus.Metric, s State) {
	c.send(out, revisionDesired, uint64(s.Desired))
	c.send(out, revisionRealized, uint64(s.Realized))
	c.send(out, manifestProblems, uint64(s.Problems))
	c.sendAll(out, endpoints, s.Endpoints)
	c.sendAll(out, identities, s.Identities)
	c.sendAll(out, policies, s.Policies)
	c.sendAll(out, services, s.Services)
	c.sendAll(out, rulesets, s.Rulesets)
	c.sendAll(out, reconcileFailing, s.Failing)
}

func (c *collector) flows(out chan<- prometheus.Metric, f Flows) {
	for t, name := range map[model.FlowType]string{
		model.FlowNew: "new", model.FlowDrop: "drop", model.FlowEnd: "end", model.FlowAlive: "alive", model.FlowAudit: "audit",
	} {
		c.send(out, flowEvents, f.Seen[t], name)
	}
	c.send(out, flowLost, f.Lost)
	c.send(out, flowMalformed, f.Malformed)
	c.send(out, flowStored, f.Stored)
}

func (c *collector) packets(out chan<- prometheus.Metric, all []Packets) {
	for _, p := range all {
		dir := p.Direction.String()
		if p.Reason == model.ReasonPassed {
			c.send(out, forwardedPackets, p.Packets, dir)
			c.send(out, forwardedBytes, p.Bytes, dir)
			continue
		}
		c.send(out, dropPackets, p.Packets, p.Reason.String(), dir)
		c.send(out, dropBytes, p.Bytes, p.Reason.String(), dir)
	}
}

func (c *collector) conntrack(out chan<- prometheus.Metric, ct Conntrack) {
	c.send(out, conntrackEntries, ct.Answered, "answered")
	c.send(out, conntrackEntries, ct.Unanswered, "unanswered")
	c.send(out, conntrackEvictions, ct.Evicted)
	c.send(out, translatedFlows, ct.Translated)
}
