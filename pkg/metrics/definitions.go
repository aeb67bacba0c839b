// SPDX-License-Identifier: Apache-2.0

// Package metrics defines what the programs export to Prometheus, from tables
// that docs/METRICS.md is written from. Every label has few values.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Definition is one metric.
type Definition struct {
	Name   string
	Type   prometheus.ValueType // UntypedValue: a histogram
	Labels []string
	Help   string
}

// Names of the metrics.
const (
	buildInfo          = "weft_agent_build_info"
	revisionDesired    = "weft_agent_revision_desired"
	revisionRealized   = "weft_agent_revision_realized"
	endpoints          = "weft_agent_endpoints"
	identities         = "weft_agent_identities"
	policies           = "weft_agent_policies"
	manifestProblems   = "weft_agent_manifest_problems"
	kubernetesFailures = "weft_agent_kubernetes_failures_total"
	reconcileErrors    = "weft_agent_reconcile_errors_total"
	reconcileFailing   = "weft_agent_reconcile_failing_rows"
	reconcileDrift     = "weft_agent_reconcile_drift_rows_total"
	requests           = "weft_agent_requests_total"
	requestSeconds     = "weft_agent_request_duration_seconds"
	dropPackets        = "weft_datapath_drop_packets_total"
	dropBytes          = "weft_datapath_drop_bytes_total"
	forwardedPackets   = "weft_datapath_forwarded_packets_total"
	forwardedBytes     = "weft_datapath_forwarded_bytes_total"
	conntrackEntries   = "weft_datapath_conntrack_entries"
	conntrackEvictions = "weft_datapath_conntrack_evictions_total"
	translatedFlows    = "weft_datapath_translated_flows"
	flowEvents         = "weft_flow_events_total"
	flowLost           = "weft_flow_lost_total"
	services           = "weft_agent_services"
	rulesets           = "weft_agent_rulesets"
	requestEvents      = "weft_flow_requests_total"
	socketPairsOut     = "weft_socket_pairs_pushed_out_total"
	socketsDestroyed   = "weft_sockets_destroyed_total"
	flowMalformed      = "weft_flow_malformed_total"
	flowStored         = "weft_flow_stored"
)

// Histogram is the Type of a histogram.
const Histogram = prometheus.UntypedValue

// Definitions lists every metric, in the order of the document.
func Definitions() []Definition {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []Definition{
		{buildInfo, gauge, []string{"version"}, "1, with the version of the agent."},
		{revisionDesired, gauge, nil, "Revision of the newest intent."},
		{revisionRealized, gauge, nil, "Newest revision that is whole in the kernel. Behind weft_agent_revision_desired for long: see weft_agent_reconcile_failing_rows."},
		{endpoints, gauge, []string{"state"}, "Pods attached on this node, by state: creating, ready, failed."},
		{identities, gauge, []string{"kind"}, "Identities known on this node, by kind: reserved, cluster, cidr."},
		{policies, gauge, []string{"kind"}, "Policies in force, by kind of object."},
		{manifestProblems, gauge, nil, "Faults in manifests, or in objects of the API server, at present; what a file or an object said when it was last right stays in force."},
		{kubernetesFailures, counter, []string{"kind"}, "Lists and watches of the API server that failed, by kind of object; what it said last stays in force."},
		{reconcileErrors, counter, []string{"kind"}, "Rows that could not be written to the kernel, by kind of row; each try counts."},
		{reconcileFailing, gauge, []string{"kind"}, "Rows that are not in the kernel at present and are tried again, by kind of row."},
		{reconcileDrift, counter, []string{"kind"}, "Rows that the kernel held otherwise than they were written, and that were mended."},
		{requests, counter, []string{"method", "code"}, "Requests to the agent's sockets, by method and gRPC code; Commit is a pod's attachment."},
		{requestSeconds, Histogram, []string{"method"}, "Time that requests to the agent's sockets took, by method, in seconds."},
		{dropPackets, counter, []string{"reason", "direction"}, "Packets that were dropped, by reason and by direction as the endpoint sees it."},
		{dropBytes, counter, []string{"reason", "direction"}, "Bytes of the packets that were dropped."},
		{forwardedPackets, counter, []string{"direction"}, "Packets that were let pass, by direction as the endpoint sees it."},
		{forwardedBytes, counter, []string{"direction"}, "Bytes of the packets that were let pass."},
		{conntrackEntries, gauge, []string{"state"}, "Flows in the connection table at the last collection: answered, unanswered."},
		{conntrackEvictions, counter, nil, "Unanswered flows that newer ones of the same endpoint pushed out: a pod that scans or floods."},
		{translatedFlows, gauge, nil, "Flows at the last collection that leave, or reach what they call, under another address."},
		{flowEvents, counter, []string{"type"}, "Flow events read from the kernel, by type: new, drop, end, alive, audit."},
		{services, gauge, []string{"served"}, "Services, by whether at least one front end has a backend (yes, no)."},
		{rulesets, gauge, []string{"state"}, "Sets of rules about requests, by state: in force; retired: only old connections may have it; refused: one too many, so that connections that it is for are refused."},
		{requestEvents, counter, []string{"verdict"}, "Requests, and connections that are no HTTP, that the proxy told of, by verdict: forwarded, dropped, audit."},
		{socketPairsOut, counter, nil, "Times that a socket talked to more services than it has room for, and its oldest one was moved to a table that others share."},
		{socketsDestroyed, counter, []string{"protocol"}, "Sockets that were ended because the backend of a service that they were connected to is gone."},
		{flowLost, counter, nil, "Flow events that found no room. Packet counters stay exact."},
		{flowMalformed, counter, nil, "Flow events that were not understood: agent and programs do not fit."},
		{flowStored, gauge, nil, "Flows held in memory for weft observe."},
	}
}

func definition(name string) Definition {
	for _, d := range Definitions() {
		if d.Name == name {
			return d
		}
	}
	panic("metric " + name + " is not in the table")
}
