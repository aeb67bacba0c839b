// SPDX-License-Identifier: Apache-2.0

package across

import (
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// flow is what of an event weft observe prints as JSON.
type flow struct {
	Time                time.Time
	DropReason          string
	Direction           string
	Source, Destination side
	Protocol            string
	IcmpType            int
	Egress, Ingress     []ruleRef
	Node                string
}

type side struct {
	IP             string
	Port           int
	Identity       int
	Entity         string
	Namespace, Pod string
	Labels         []string
}

type ruleRef struct{ Kind, Namespace, Name, Rule string }

// who is the name by which a flow knows one side.
func (s side) who() string {
	switch {
	case s.Pod != "":
		return s.Namespace + "/" + s.Pod
	case s.Entity != "":
		return s.Entity
	}
	return strings.Join(s.Labels, " ")
}

// told is a drop as it has to be told.
type told struct {
	node, direction string // egress, ingress
	from, to        string // addresses
	protocol        string
	port            int
}

func (f flow) told() told {
	direction := strings.ToLower(strings.TrimPrefix(f.Direction, "DIRECTION_"))
	port := f.Destination.Port
	if strings.HasPrefix(f.Protocol, "icmp") {
		port = 0 // it is the identifier
	}
	return told{f.Node, direction, f.Source.IP, f.Destination.IP, f.Protocol, port}
}

// because is why, and whose rule it was.
func (f flow) because() string {
	rules := f.Egress
	if f.Direction == "DIRECTION_INGRESS" {
		rules = f.Ingress
	}
	var all []string
	for _, r := range rules {
		all = append(all, strings.TrimRight(r.Kind+" "+r.Namespace+"/"+r.Name+" "+r.Rule, " "))
	}
	slices.Sort(all)
	return strings.TrimPrefix(f.DropReason, "DROP_REASON_") + ": " + strings.Join(all, ", ")
}

// dropped asks every node's agent what it dropped since then.
func (w *world) dropped(since time.Time) []flow {
	w.T.Helper()
	out := w.Shell("weft observe --verdict dropped -o json --since " + since.UTC().Format(time.RFC3339Nano))
	var all []flow
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		if !strings.HasPrefix(line, "{") {
			if line != "" {
				w.T.Logf("weft observe: %s", line)
			}
			continue
		}
		all = append(all, decode[flow](w.T, line))
	}
	return all
}

// drops are a node's counters by reason.
func (w *world) drops(n int) map[string]int {
	w.T.Helper()
	return framework.Drops(w.On(n, w.Program("probe")+" ask http://127.0.0.1:9465/metrics"))
}
