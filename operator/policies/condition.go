// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// Reasons of the condition Valid.
const (
	reasonAccepted = "Accepted"
	reasonInvalid  = "Invalid"
	reasonRefused  = "RefusedByProxy"
)

const (
	// maxMessage is the longest message that a condition may have.
	maxMessage = 32768
	// maxNamed nodes are named of those whose proxies say the same, and as many
	// different things are told.
	maxNamed = 5
)

// condition is Valid for a policy of this generation: what is wrong with it, else what
// proxies of nodes have against it, by node.
func condition(generation int64, fault error, refused map[string]string) metav1.Condition {
	out := metav1.Condition{
		Type: v1alpha1.ConditionValid, Status: metav1.ConditionTrue, Reason: reasonAccepted,
		Message: "agents take the policy as it is", ObservedGeneration: generation,
	}
	switch {
	case fault != nil:
		text := fault.Error()
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, reasonInvalid, text[:min(len(text), maxMessage)]
	case len(refused) > 0:
		out.Status, out.Reason, out.Message = metav1.ConditionFalse, reasonRefused, "proxies do not take it as it is: "+byText(refused)
	}
	return out
}

// byText says of each text once on which nodes it is so; what most nodes say is first.
func byText(refused map[string]string) string {
	nodes := make(map[string][]string)
	for node, text := range refused {
		nodes[text] = append(nodes[text], node)
	}
	texts := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(nodes[b]), len(nodes[a])), cmp.Compare(a, b))
	})
	var parts []string
	for _, text := range texts[:min(len(texts), maxNamed)] {
		slices.Sort(nodes[text])
		parts = append(parts, "on "+some(nodes[text])+": "+text)
	}
	if more := len(texts) - maxNamed; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more say something else", more))
	}
	return strings.Join(parts, "; ")
}

func some(nodes []string) string {
	if more := len(nodes) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:maxNamed], ", "), more)
	}
	return strings.Join(nodes, ", ")
}
