// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// Status writes the agent's health, revisions, counts and drops.
func Status(w io.Writer, s *agentv1.GetStatusResponse, now time.Time) error {
	up := now.Sub(s.GetStarted().AsTime()).Round(time.Second)
	f := s.GetFlows()
	_, err := fmt.Fprintf(w, `weft %s on %s, source %s, up %s
health      %s
revision    %d in the kernel, %d wanted%s
pods        %d
identities  %d
policies    %d
services    %d
rulesets    %d
pod ranges  %s
flows       %d seen, %d lost, %d stored, %d tracked

`, s.GetVersion(), orDash(s.GetNode()), orDash(s.GetSource()), up,
		health(s.GetHealth()), s.GetRealizedRevision(), s.GetDesiredRevision(), pending(s),
		s.GetEndpoints(), s.GetIdentities(), s.GetPolicies(), s.GetServices(), s.GetRulesets(), orDash(strings.Join(s.GetPodCidrs(), ", ")),
		f.GetSeen(), f.GetLost(), f.GetStored(), f.GetTracked())
	if err != nil {
		return err
	}
	if err := components(w, s.GetComponents()); err != nil {
		return err
	}
	return drops(w, s.GetDrops())
}

func pending(s *agentv1.GetStatusResponse) string {
	if s.GetRealizedRevision() < s.GetDesiredRevision() {
		return " (under way)"
	}
	return ""
}

func health(h agentv1.Health) string {
	if h == agentv1.Health_HEALTH_UNSPECIFIED {
		return "unknown"
	}
	return strings.ToLower(strings.TrimPrefix(h.String(), "HEALTH_"))
}

func components(w io.Writer, parts []*agentv1.ComponentStatus) error {
	var rows [][]string
	for _, c := range parts {
		rows = append(rows, []string{c.GetName(), health(c.GetHealth()), c.GetMessage()})
	}
	if len(rows) == 0 {
		return nil
	}
	return Table(w, []string{"COMPONENT", "HEALTH", "MESSAGE"}, rows)
}

func drops(w io.Writer, counters []*agentv1.DropCounter) error {
	var rows [][]string
	for _, d := range counters {
		if d.GetPackets() == 0 {
			continue
		}
		rows = append(rows, []string{d.GetReason(), d.GetDirection(), number(d.GetPackets()), Bytes(d.GetBytes()), meaning(d.GetReason())})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "\nno packet was dropped")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return Table(w, []string{"DROPPED", "DIRECTION", "PACKETS", "BYTES", "BECAUSE"}, rows)
}

// meaning is the sentence of a reason, or empty for one of a newer agent.
func meaning(reason string) string {
	for _, text := range model.ReasonTexts() {
		if text.Name == reason {
			return text.Sentence
		}
	}
	return ""
}

func number[N uint32 | uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }

// Endpoints writes the endpoints of a node, or of those that nodes names line by
// line.
func Endpoints(w io.Writer, all []*agentv1.Endpoint, nodes []string) error {
	var rows [][]string
	for _, e := range all {
		rows = append(rows, []string{number(e.GetId()), e.GetNamespace() + "/" + e.GetPod(), number(e.GetIdentity()),
			e.GetIpv4(), e.GetIpv6(), e.GetDevice(), e.GetState(), isolation(e), number(e.GetPolicyEntries()),
			number(e.GetPolicyRevision()), e.GetMessage()})
	}
	return nodeTable(w, []string{"ID", "POD", "IDENTITY", "IPV4", "IPV6", "DEVICE", "STATE", "ISOLATED",
		"ENTRIES", "REVISION", "MESSAGE"}, rows, nodes)
}

func isolation(e *agentv1.Endpoint) string {
	switch {
	case e.GetIsolatedIngress() && e.GetIsolatedEgress():
		return "both"
	case e.GetIsolatedIngress():
		return "ingress"
	case e.GetIsolatedEgress():
		return "egress"
	}
	return "no"
}

// Identities writes the known identities; nodes as for Endpoints.
func Identities(w io.Writer, all []*agentv1.Identity, nodes []string) error {
	var rows [][]string
	for _, i := range all {
		rows = append(rows, []string{number(i.GetId()), i.GetKind(), number(i.GetEndpoints()), strings.Join(i.GetLabels(), " ")})
	}
	return nodeTable(w, []string{"ID", "KIND", "ENDPOINTS", "LABELS"}, rows, nodes)
}
