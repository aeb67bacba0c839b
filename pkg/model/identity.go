// SPDX-License-Identifier: Apache-2.0

// Package model holds the domain types that every other package speaks in:
// workloads, identities, policies, and the rows that the kernel is given. It
// imports the standard library only and holds no logic beyond small accessors.
package model

import (
	"fmt"
	"sort"
	"strings"
)

// IdentityID is a numeric security identity (see bpf/abi.h, enum weft_reserved).
type IdentityID uint32

// Reserved identities and the ranges of the others.
const (
	IdentityNone          IdentityID = 0 // in a policy entry: any peer
	IdentityHost          IdentityID = 1
	IdentityRemoteNode    IdentityID = 2
	IdentityWorldIPv4     IdentityID = 3
	IdentityWorldIPv6     IdentityID = 4
	IdentityKubeAPIServer IdentityID = 5
	IdentityHealth        IdentityID = 6
	IdentityIngress       IdentityID = 7
	IdentityUnmanaged     IdentityID = 8
	IdentityUnknown       IdentityID = 9

	MinClusterIdentity IdentityID = 256       // first one the operator allocates
	MinLocalIdentity   IdentityID = 1 << 24   // first node-local one (CIDR), never on the wire
	MaxLocalIdentity   IdentityID = 1<<25 - 1 // last node-local one
)

// ReservedNames maps the reserved identities to the names they have in flows,
// in the API and as reserved:NAME labels.
func ReservedNames() map[IdentityID]string {
	return map[IdentityID]string{
		IdentityHost: "host", IdentityRemoteNode: "remote-node",
		IdentityWorldIPv4: "world-ipv4", IdentityWorldIPv6: "world-ipv6",
		IdentityKubeAPIServer: "kube-apiserver", IdentityHealth: "health",
		IdentityIngress: "ingress", IdentityUnmanaged: "unmanaged", IdentityUnknown: "unknown",
	}
}

// IsReserved tells whether the identity has a fixed meaning.
func (id IdentityID) IsReserved() bool { return id > 0 && id < MinClusterIdentity }

// IsCluster tells whether the operator allocated the identity.
func (id IdentityID) IsCluster() bool { return id >= MinClusterIdentity && id < MinLocalIdentity }

// IsLocal tells whether the identity stands for a CIDR on this node only.
func (id IdentityID) IsLocal() bool { return id >= MinLocalIdentity && id <= MaxLocalIdentity }

// Label sources.
const (
	SourceK8s      = "k8s"      // labels of pods and what is derived from Kubernetes objects
	SourceReserved = "reserved" // reserved:host and the like
	SourceCIDR     = "cidr"     // cidr:10.0.0.0/8 on node-local identities
)

// Label keys that are added to a workload's own labels, spelled as
// CiliumNetworkPolicy selectors expect them.
const (
	LabelNamespace       = "io.kubernetes.pod.namespace"
	LabelNamespacePrefix = "io.cilium.k8s.namespace.labels." // plus the key of the namespace's label
	LabelServiceAccount  = "io.cilium.k8s.policy.serviceaccount"
	LabelCluster         = "io.cilium.k8s.policy.cluster"
)

// Label is one identity-relevant label.
type Label struct {
	Source string // SourceK8s, SourceReserved or SourceCIDR
	Key    string
	Value  string
}

// String is source:key=value, or source:key where the value is empty.
func (l Label) String() string {
	if l.Value == "" {
		return l.Source + ":" + l.Key
	}
	return l.Source + ":" + l.Key + "=" + l.Value
}

// Labels is a set of labels sorted by source, key. Build it with NewLabels.
type Labels []Label

// NewLabels sorts a copy; of two labels with one source and key the last wins.
func NewLabels(in ...Label) Labels {
	m := make(map[[2]string]Label, len(in))
	for _, l := range in {
		m[[2]string{l.Source, l.Key}] = l
	}
	out := make(Labels, 0, len(m))
	for _, l := range m {
		out = append(out, l)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Source != out[j].Source {
			return out[i].Source < out[j].Source
		}
		return out[i].Key < out[j].Key
	})
	return out
}

// Get finds a label by source and key; source "any" or "" matches every source.
func (ls Labels) Get(source, key string) (string, bool) {
	for _, l := range ls {
		if l.Key == key && (source == "" || source == "any" || l.Source == source) {
			return l.Value, true
		}
	}
	return "", false
}

// Strings is each label's String, in order.
func (ls Labels) Strings() []string {
	out := make([]string, len(ls))
	for i, l := range ls {
		out[i] = l.String()
	}
	return out
}

// Key is a canonical form: equal sets have equal keys.
func (ls Labels) Key() string { return strings.Join(ls.Strings(), "\n") }

// ParseLabel reads source:key=value; a missing source is k8s.
func ParseLabel(s string) (Label, error) {
	l := Label{Source: SourceK8s}
	head, value, _ := strings.Cut(s, "=")
	if source, key, ok := strings.Cut(head, ":"); ok {
		l.Source, head = source, key
	}
	if head == "" {
		return Label{}, fmt.Errorf("label %q has no key", s)
	}
	l.Key, l.Value = head, value
	return l, nil
}

// Identity is a numeric identity and the label set it stands for.
type Identity struct {
	ID     IdentityID
	Labels Labels
}
