// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// shownPods is how many of a policy's pods a table names.
const shownPods = 4

// Names are what people call the endpoints and identities that the agent's answer
// about policies gives by number. What they do not have stays a number.
type Names struct {
	endpoints  map[uint32]*agentv1.Endpoint
	identities map[uint32]string
}

// NewNames takes the names from the agent's lists.
func NewNames(endpoints []*agentv1.Endpoint, identities []*agentv1.Identity) Names {
	n := Names{endpoints: map[uint32]*agentv1.Endpoint{}, identities: map[uint32]string{}}
	for _, e := range endpoints {
		n.endpoints[e.GetId()] = e
	}
	for id, name := range model.ReservedNames() {
		n.identities[uint32(id)] = name
	}
	for _, i := range identities {
		if name := shortName(i.GetLabels()); name != "" {
			n.identities[i.GetId()] = name
		}
	}
	return n
}

// shortName is the namespace and the pods' own labels, or the CIDR; empty if it is
// neither.
func shortName(labels []string) string {
	var namespace string
	var own []string
	for _, label := range labels {
		source, rest, _ := strings.Cut(label, ":")
		key, value, _ := strings.Cut(rest, "=")
		switch {
		case source == model.SourceCIDR:
			return label
		case source != model.SourceK8s:
		case key == model.LabelNamespace:
			namespace = value
		case strings.HasPrefix(key, model.LabelNamespacePrefix), key == model.LabelServiceAccount, key == model.LabelCluster:
		default:
			own = append(own, rest)
		}
	}
	return strings.TrimSpace(namespace + " " + strings.Join(own, ","))
}

// peer is the number that the kernel compares, and who that is.
func (n Names) peer(id uint32) string {
	if id == 0 {
		return "any"
	}
	return strings.TrimSpace(number(id) + " " + n.identities[id])
}

// pods names endpoints, those of the namespace without it.
func (n Names) pods(ids []uint32, namespace string) string {
	var out []string
	for _, id := range ids {
		name := number(id)
		if e := n.endpoints[id]; e != nil {
			name = strings.TrimPrefix(e.GetNamespace()+"/"+e.GetPod(), namespace+"/")
		}
		out = append(out, name)
	}
	slices.Sort(out)
	if more := len(out) - shownPods; more > 0 {
		out = append(out[:shownPods], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// Policies writes the policies and, where the answer has them, the compiled
// entries of every endpoint.
func Policies(w io.Writer, r *agentv1.ListPoliciesResponse, n Names) error {
	var rows [][]string
	for _, p := range r.GetPolicies() {
		name := p.GetName()
		if p.GetNamespace() != "" {
			name = p.GetNamespace() + "/" + name
		}
		rows = append(rows, []string{p.GetKind(), name, number(p.GetRules()), n.pods(p.GetEndpoints(), p.GetNamespace()),
			number(p.GetRevision()), p.GetSource(), p.GetMessage()})
	}
	err := Table(w, []string{"KIND", "NAME", "RULES", "PODS", "REVISION", "SOURCE", "MESSAGE"}, rows)
	if err != nil {
		return err
	}
	for _, e := range r.GetEndpoints() {
		if err := n.entries(w, e); err != nil {
			return err
		}
	}
	return nil
}

func (n Names) entries(w io.Writer, e *agentv1.EndpointPolicy) error {
	title := fmt.Sprintf("endpoint %d", e.GetEndpoint())
	if known := n.endpoints[e.GetEndpoint()]; known != nil {
		title += fmt.Sprintf(" %s/%s, isolated: %s", known.GetNamespace(), known.GetPod(), isolation(known))
	}
	if len(e.GetEntries()) == 0 {
		_, err := fmt.Fprintf(w, "\n%s, no entries\n", title)
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", title); err != nil {
		return err
	}
	var rows [][]string
	for _, p := range e.GetEntries() {
		protocol := p.GetProtocol()
		if protocol == "0" {
			protocol = "any"
		}
		rows = append(rows, []string{p.GetDirection(), n.peer(p.GetPeer()), protocol, p.GetPort(), p.GetAction(), p.GetRule()})
	}
	return Table(w, []string{"DIRECTION", "PEER", "PROTOCOL", "PORT", "ACTION", "RULE"}, rows)
}
