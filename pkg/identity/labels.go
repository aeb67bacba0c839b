// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"cmp"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// namespaceName is the label by which selectors know a namespace's name.
const namespaceName = "kubernetes.io/metadata.name"

// LabelsOf is the label set that a pod's identity stands for: its own labels
// and its namespace's as far as the filter keeps them, the namespace's name
// (in both forms that selectors have for it), the service account and the
// cluster. The filter does not apply to the last three, which policies rely on.
func LabelsOf(pod model.Pod, ns model.Namespace, cluster string, filter Filter) model.Labels {
	k8s := func(key, value string) model.Label {
		return model.Label{Source: model.SourceK8s, Key: key, Value: value}
	}
	ls := make([]model.Label, 0, len(pod.Labels)+len(ns.Labels)+3)
	for key, value := range pod.Labels {
		if filter.Keeps(key) && !derived(key) {
			ls = append(ls, k8s(key, value))
		}
	}
	for key, value := range ns.Labels {
		if filter.Keeps(key) || key == namespaceName {
			ls = append(ls, k8s(model.LabelNamespacePrefix+key, value))
		}
	}
	ls = append(ls,
		k8s(model.LabelNamespace, pod.Namespace),
		k8s(model.LabelServiceAccount, cmp.Or(pod.ServiceAccount, "default")))
	if cluster != "" {
		ls = append(ls, k8s(model.LabelCluster, cluster))
	}
	return model.NewLabels(ls...)
}

// Carries tells whether an identity can have a label with this key, which is
// that of a selector: those that LabelsOf adds, and what the filter keeps.
func (f Filter) Carries(key string) bool {
	if rest, ok := strings.CutPrefix(key, model.LabelNamespacePrefix); ok {
		return rest == namespaceName || f.Keeps(rest)
	}
	return derived(key) || f.Keeps(key)
}

// derived tells whether a key is one of those that this package adds: a pod
// must not pass for a member of another namespace by labels of its own.
func derived(key string) bool {
	switch key {
	case model.LabelNamespace, model.LabelServiceAccount, model.LabelCluster:
		return true
	}
	return len(key) >= len(model.LabelNamespacePrefix) &&
		key[:len(model.LabelNamespacePrefix)] == model.LabelNamespacePrefix
}
