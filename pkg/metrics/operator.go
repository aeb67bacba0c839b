// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// Names of the operator's metrics.
const (
	operatorBuildInfo   = "weft_operator_build_info"
	operatorLeader      = "weft_operator_leader"
	operatorIdentities  = "weft_operator_identities"
	operatorAllocations = "weft_operator_identity_allocations_total"
	operatorCollected   = "weft_operator_collected_total"
	operatorPool        = "weft_operator_pool_blocks"
	operatorNodes       = "weft_operator_nodes"
	operatorErrors      = "weft_operator_reconcile_errors_total"
)

// OperatorDefinitions lists the operator's metrics, in the order of the document.
func OperatorDefinitions() []Definition {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []Definition{
		{operatorBuildInfo, gauge, []string{"version"}, "1, with the version of the operator."},
		{operatorLeader, gauge, nil, "1 if this operator leads, else 0. The other metrics are of use from the leader."},
		{operatorIdentities, gauge, nil, "Identities that are allocated."},
		{operatorAllocations, counter, []string{"result"}, "Allocations of identities, by result: created, failed, exhausted. Pods whose labels have an identity already do not count; each try of a failed one does."},
		{operatorCollected, counter, []string{"kind"}, "Objects that were removed because no one uses them any more, by kind."},
		{operatorPool, gauge, []string{"range", "state"}, "Blocks of each range of clusterCIDRs, by state: used, free. One is what a node gets."},
		{operatorNodes, gauge, []string{"ready"}, "Nodes, by whether pods can have a network there (yes, no)."},
		{operatorErrors, counter, []string{"kind"}, "Objects that could not be dealt with, by kind; each try counts."},
	}
}

// Operator counts what happens in the operator.
type Operator struct {
	leader, identities             prometheus.Gauge
	allocations, collected, errors *prometheus.CounterVec
	pool, nodes                    *prometheus.GaugeVec
}

// NewOperator registers the operator's metrics; the registry must be new to them.
func NewOperator(reg prometheus.Registerer, version string) *Operator {
	gauge := func(name string) *prometheus.GaugeVec {
		d := operatorDefinition(name)
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
		reg.MustRegister(g)
		return g
	}
	counter := func(name string) *prometheus.CounterVec {
		d := operatorDefinition(name)
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
		reg.MustRegister(c)
		return c
	}
	gauge(operatorBuildInfo).WithLabelValues(version).Set(1)
	o := &Operator{
		leader: gauge(operatorLeader).WithLabelValues(), identities: gauge(operatorIdentities).WithLabelValues(),
		allocations: counter(operatorAllocations), collected: counter(operatorCollected), errors: counter(operatorErrors),
		pool: gauge(operatorPool), nodes: gauge(operatorNodes),
	}
	for _, result := range []string{"created", "failed", "exhausted"} {
		o.allocations.WithLabelValues(result) // there from the start, for alerts
	}
	return o
}

func operatorDefinition(name string) Definition {
	for _, d := range OperatorDefinitions() {
		if d.Name == name {
			return d
		}
	}
	panic("metric " + name + " is not in the table")
}

// SetLeader tells whether this operator leads.
func (o *Operator) SetLeader(leads bool) {
	o.leader.Set(0)
	if leads {
		o.leader.Set(1)
	}
}

// SetIdentities is how many there are.
func (o *Operator) SetIdentities(n int) { o.identities.Set(float64(n)) }

// Allocation counts one; result is created, failed or exhausted.
func (o *Operator) Allocation(result string) { o.allocations.WithLabelValues(result).Inc() }

// Collected counts objects of a kind that were removed.
func (o *Operator) Collected(kind string, n int) { o.collected.WithLabelValues(kind).Add(float64(n)) }

// SetPool is the state of one of the cluster's ranges, in blocks.
func (o *Operator) SetPool(prefix string, used, blocks uint64) {
	o.pool.WithLabelValues(prefix, "used").Set(float64(used))
	o.pool.WithLabelValues(prefix, "free").Set(float64(blocks - min(used, blocks)))
}

// SetNodes is how many nodes pods can, and cannot, have a network on.
func (o *Operator) SetNodes(ready, not int) {
	o.nodes.WithLabelValues("yes").Set(float64(ready))
	o.nodes.WithLabelValues("no").Set(float64(not))
}

// ReconcileError counts an object of a kind that could not be dealt with.
func (o *Operator) ReconcileError(kind string) { o.errors.WithLabelValues(kind).Inc() }
