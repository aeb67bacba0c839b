// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weftmesh/weft/cli/cluster"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// ClusterStatus writes what the API server knows of Weft, a line for each node, and
// what was dropped on all of them. width is the terminal's, or 0.
func ClusterStatus(w io.Writer, s *cluster.State, answers []OfNode, now time.Time, width int) error {
	ready := 0
	for _, n := range s.Nodes {
		if n.Ready {
			ready++
		}
	}
	_, err := fmt.Fprintf(w, `weft in cluster %s, namespace %s
agents      %s
operator    %s
identities  %d
nodes       %d of %d ready

`, printable(s.Cluster), s.Namespace, workload(s.Agents, "DaemonSet "+cluster.AgentName),
		workload(s.Operator, "Deployment "+cluster.OperatorName)+leader(s, now), s.Identities, ready, len(s.Nodes))
	if err != nil {
		return err
	}
	if err := nodeLines(w, s, answers, width); err != nil {
		return err
	}
	return drops(w, sumDrops(answers))
}

func workload(w *cluster.Workload, name string) string {
	if w == nil {
		return name + " is not there"
	}
	text := fmt.Sprintf("%d of %d ready", w.Ready, w.Desired)
	if w.Updated < w.Desired {
		text += fmt.Sprintf(", %d of the newest template", w.Updated)
	}
	return text
}

// withoutLeader is what the operator's absence means; what there is goes on.
const withoutLeader = "new nodes, and pods with labels that no pod had yet, wait"

func leader(s *cluster.State, now time.Time) string {
	switch {
	case s.Operator == nil:
		return ""
	case s.Leader == nil:
		return ", nobody leads: " + withoutLeader
	case s.Leader.Expired:
		return fmt.Sprintf(", nobody leads (%s did, until %s ago): %s", leaderPod(s.Leader.Name), now.Sub(s.Leader.Renewed).Round(time.Second), withoutLeader)
	}
	return ", leader " + leaderPod(s.Leader.Name)
}

// leaderPod leaves out what tells the runs of a pod apart.
func leaderPod(holder string) string {
	pod, _, _ := strings.Cut(holder, "_")
	return pod
}

// nodeLines has a line for every node that is known or answered. Problems that make it
// wider than the terminal come below, each in lines of its own.
func nodeLines(w io.Writer, s *cluster.State, answers []OfNode, width int) error {
	known := make(map[string]cluster.Node)
	of := make(map[string]OfNode)
	var names []string
	for _, n := range s.Nodes {
		known[n.Name] = n
		names = append(names, n.Name)
	}
	for _, a := range answers {
		of[a.Node] = a
		names = append(names, a.Node)
	}
	slices.Sort(names)
	var rows [][]string
	var below []string
	for _, name := range slices.Compact(names) {
		a, ok := of[name]
		if !ok {
			a.Err = fmt.Errorf("it has no pod of the agent")
		}
		row, problems := nodeLine(name, known[name], a)
		rows = append(rows, append(row, strings.Join(problems, "; ")))
		for _, p := range problems {
			below = append(below, Wrap(name+": "+printable(p), width))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	header := []string{"NODE", "VERSION", "READY", "HEALTH", "REVISION", "PODS", "SERVICES", "POLICIES", "FLOWS", "LOST", "PROBLEM"}
	var table strings.Builder
	if err := Table(&table, header, rows); err != nil {
		return err
	}
	wide := func(line string) bool { return utf8.RuneCountInString(line) > width }
	if width <= 0 || len(below) == 0 || !slices.ContainsFunc(strings.Split(table.String(), "\n"), wide) {
		_, err := io.WriteString(w, table.String())
		return err
	}
	for i := range rows {
		rows[i] = rows[i][:len(header)-1]
	}
	if err := Table(w, header[:len(header)-1], rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(below, "\n"))
	return err
}

// nodeLine is a node's cells, and what is wrong there.
func nodeLine(name string, n cluster.Node, a OfNode) (cells, problems []string) {
	ready := "yes"
	if !n.Ready {
		ready = "no"
		problems = append(problems, n.Message)
	}
	status, ok := a.Message.(*agentv1.GetStatusResponse)
	if !ok || a.Err != nil {
		if a.Err != nil {
			problems = append(problems, a.Err.Error())
		}
		return []string{name, n.AgentVersion, ready, "unknown", "", "", "", "", "", ""}, problems
	}
	problems = append(problems, componentProblems(status)...)
	if p := unattached(n.Unattached); p != "" {
		problems = append(problems, p)
	}
	revision := number(status.GetRealizedRevision())
	if status.GetRealizedRevision() < status.GetDesiredRevision() {
		revision += " of " + number(status.GetDesiredRevision())
	}
	return []string{name, status.GetVersion(), ready, health(status.GetHealth()), revision, number(status.GetEndpoints()),
		number(status.GetServices()), number(status.GetPolicies()), number(status.GetFlows().GetSeen()), number(status.GetFlows().GetLost())}, problems
}

// unattached names the first of the pods that run without Weft, and what to do.
func unattached(pods []string) string {
	const shown = 3
	if len(pods) == 0 {
		return ""
	}
	text := strings.Join(pods[:min(len(pods), shown)], ", ")
	if more := len(pods) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return "pods that began before Weft and have no network of it: " + text + "; delete them, so that they are made anew"
}

// Problem is what the agent says of its parts that are not well.
func Problem(s *agentv1.GetStatusResponse) string { return strings.Join(componentProblems(s), "; ") }

func componentProblems(s *agentv1.GetStatusResponse) (out []string) {
	for _, c := range s.GetComponents() {
		if c.GetHealth() != agentv1.Health_HEALTH_OK {
			out = append(out, c.GetName()+": "+c.GetMessage())
		}
	}
	return out
}

func sumDrops(answers []OfNode) []*agentv1.DropCounter {
	var out []*agentv1.DropCounter
	sums := make(map[string]*agentv1.DropCounter)
	for _, a := range answers {
		s, ok := a.Message.(*agentv1.GetStatusResponse)
		if !ok {
			continue
		}
		for _, d := range s.GetDrops() {
			key := d.GetReason() + " " + d.GetDirection()
			if sums[key] == nil {
				sums[key] = &agentv1.DropCounter{Reason: d.GetReason(), Direction: d.GetDirection()}
				out = append(out, sums[key])
			}
			sums[key].Packets += d.GetPackets()
			sums[key].Bytes += d.GetBytes()
		}
	}
	return out
}
