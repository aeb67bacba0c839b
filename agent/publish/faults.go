// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"cmp"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// Fault is what the node's proxy has against a policy.
type Fault struct {
	Policy model.PolicyKey // empty: it is not known which
	Text   string
}

// toTell is what of them a status has room for: each policy once, in the order of
// policies, whatever their order was.
func toTell(list []Fault) (out []v1alpha1.ProxyFault) {
	texts := make(map[model.PolicyKey][]string)
	for _, f := range list {
		if f.Policy.Name != "" {
			texts[f.Policy] = append(texts[f.Policy], f.Text)
		}
	}
	for key, all := range texts {
		slices.Sort(all)
		out = append(out, v1alpha1.ProxyFault{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name,
			Message: shortened(strings.Join(slices.Compact(all), "; "))})
	}
	slices.SortFunc(out, func(a, b v1alpha1.ProxyFault) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out[:min(len(out), v1alpha1.MaxProxyFaults)]
}

// shortened cuts a text between two characters.
func shortened(text string) string {
	const cut = "…"
	if len(text) <= v1alpha1.MaxFaultMessage {
		return text
	}
	return strings.ToValidUTF8(text[:v1alpha1.MaxFaultMessage-len(cut)], "") + cut
}
