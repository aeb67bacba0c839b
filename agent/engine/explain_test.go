// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
)

// A policy that asks about a label which identities leave out says so.
func TestPolicyThatSelectsByALabelThatIsLeftOut(t *testing.T) {
	selector := func(source string, keys ...string) model.Selector {
		var s model.Selector
		for _, k := range keys {
			s.Requirements = append(s.Requirements, model.Requirement{Source: source, Key: k, Operator: model.OpExists})
		}
		return s
	}
	peer := selector("k8s", "job-name", "batch.kubernetes.io/job-name")
	ns := model.LabelNamespacePrefix
	for name, c := range map[string]struct {
		subject model.Selector
		peers   []model.Peer
		names   string
	}{
		"kept":       {subject: selector("any", "app", model.LabelNamespace, model.LabelServiceAccount, ns+"team", ns+"kubernetes.io/metadata.name")},
		"reserved":   {subject: selector("reserved", "job-name")},
		"subject":    {subject: selector("any", "pod-template-hash"), names: "pod-template-hash"},
		"peer":       {peers: []model.Peer{{Any: true}, {Selector: &peer}}, names: "batch.kubernetes.io/job-name, job-name"},
		"namespace":  {subject: selector("k8s", ns+"topology.kubernetes.io/zone"), names: ns + "topology.kubernetes.io/zone"},
		"both sides": {subject: selector("k8s", "job-name"), peers: []model.Peer{{Selector: &peer}}, names: "batch.kubernetes.io/job-name, job-name"},
	} {
		p := model.Policy{Subject: c.subject, Rules: []model.Rule{{Peers: c.peers}}}
		got := policyViews(identity.DefaultFilter(), []model.Policy{p}, nil)[0].Message
		if (got == "") != (c.names == "") || !strings.HasPrefix(strings.TrimPrefix(got, "identityLabels leaves out "), c.names) {
			t.Errorf("%s: got %q, want %q named", name, got, c.names)
		}
	}
}
