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

// Pods names endpoints.
func (n Names) Pods(ids []uint32) []string {
	var out []string
	for _, id := range ids {
		name := number(id)
		if e := n.endpoints[id]; e != nil {
			name = e.GetNamespace() + "/" + e.GetPod()
		}
		out = append(out, name)
	}
	return out
}

// podsCell names the first few, those of the namespace without it.
func podsCell(pods []string, namespace string) string {
	var out []string
	for _, pod := range pods {
		out = append(out, strings.TrimPrefix(pod, namespace+"/"))
	}
	slices.Sort(out)
	if more := len(out) - shownPods; more > 0 {
		out = append(out[:shownPods], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// Policies writes policies with the pods that each selects. Nodes are as for
// Endpoints; revisions are each node's own and shown of one only.
func Policies(w io.Writer, all []*agentv1.Policy, pods [][]string, nodes []string) error {
	var rows [][]string
	header := []string{"KIND", "NAME", "RULES", "PODS", "REVISION", "SOURCE", "MESSAGE"}
	const revision = 4
	for i, p := range all {
		name := p.GetName()
		if p.GetNamespace() != "" {
			name = p.GetNamespace() + "/" + name
		}
		row := []string{p.GetKind(), name, number(p.GetRules()), podsCell(pods[i], p.GetNamespace()),
			number(p.GetRevision()), p.GetSource(), p.GetMessage()}
		if nodes != nil {
			row = slices.Delete(row, revision, revision+1)
		}
		rows = append(rows, row)
	}
	if nodes != nil {
		header = slices.Delete(header, revision, revision+1)
	}
	return nodeTable(w, header, rows, nodes)
}

// Entries writes the compiled entries of endpoints; node may be empty.
func (n Names) Entries(w io.Writer, all []*agentv1.EndpointPolicy, node string) error {
	for _, e := range all {
		if err := n.entries(w, e, node); err != nil {
			return err
		}
	}
	return nil
}

func (n Names) entries(w io.Writer, e *agentv1.EndpointPolicy, node string) error {
	title := fmt.Sprintf("endpoint %d", e.GetEndpoint())
	if node != "" {
		title = "node " + node + ", " + title
	}
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
		rows = append(rows, []string{p.GetDirection(), n.peer(p.GetPeer()), protocol, p.GetPort(), entryAction(p), p.GetRule()})
	}
	return Table(w, []string{"DIRECTION", "PEER", "PROTOCOL", "PORT", "ACTION", "RULE"}, rows)
}

func entryAction(p *agentv1.PolicyEntry) string {
	if p.GetRuleset() == 0 {
		return p.GetAction()
	}
	return fmt.Sprintf("%s by ruleset %d", p.GetAction(), p.GetRuleset())
}
