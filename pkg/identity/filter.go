// SPDX-License-Identifier: Apache-2.0

// Package identity decides which labels make a workload's identity. It is pure:
// the numbers for the label sets come from the operator's allocator.
package identity

import (
	"fmt"
	"strings"
)

// Filter tells which keys of pod and namespace labels make identities. The
// fewer there are, the fewer identities; a label that differs from pod to pod
// makes one identity, and one policy set, a pod.
//
// The zero Filter keeps every key. Build one with NewFilter.
type Filter struct {
	include, exclude []pattern
}

// pattern matches label keys: * stands for any text, slashes included.
type pattern []string

// DefaultExclude lists the keys that are left out by default: hashes, numbers
// and names that differ between pods of one workload.
func DefaultExclude() []string {
	return []string{
		"pod-template-hash",
		"pod-template-generation",
		"controller-revision-hash",
		"controller-uid",
		"job-name",
		"apps.kubernetes.io/pod-index",
		"statefulset.kubernetes.io/pod-name",
		"batch.kubernetes.io/*",
		"*.kubernetes.io/*hash",
		"topology.kubernetes.io/*",
		"failure-domain.beta.kubernetes.io/*",
		"node.kubernetes.io/*",
		"rollouts-pod-template-hash",
	}
}

// NewFilter makes a filter that keeps the keys that a pattern of include
// matches (any key, if there is none) and no pattern of exclude does. In a
// pattern * stands for any text.
func NewFilter(include, exclude []string) (Filter, error) {
	in, err := patterns(include)
	if err != nil {
		return Filter{}, fmt.Errorf("include: %w", err)
	}
	out, err := patterns(exclude)
	if err != nil {
		return Filter{}, fmt.Errorf("exclude: %w", err)
	}
	return Filter{include: in, exclude: out}, nil
}

// DefaultFilter is the filter without configuration.
func DefaultFilter() Filter {
	f, err := NewFilter(nil, DefaultExclude())
	if err != nil {
		panic(err) // the default patterns are constant
	}
	return f
}

func patterns(in []string) ([]pattern, error) {
	var out []pattern
	for i, s := range in {
		if s == "" || strings.ContainsAny(s, " \t\n=?[]{}\\^$():,") {
			return nil, fmt.Errorf("[%d]: %q is not a pattern of label keys; "+
				"write a key in which * stands for any text, such as example.com/*", i, s)
		}
		out = append(out, strings.Split(s, "*"))
	}
	return out, nil
}

// Keeps tells whether a label with this key is part of identities.
func (f Filter) Keeps(key string) bool {
	return (len(f.include) == 0 || anyMatch(f.include, key)) && !anyMatch(f.exclude, key)
}

func anyMatch(ps []pattern, key string) bool {
	for _, p := range ps {
		if p.match(key) {
			return true
		}
	}
	return false
}

func (p pattern) match(key string) bool {
	if len(p) == 1 {
		return p[0] == key
	}
	rest, ok := strings.CutPrefix(key, p[0])
	if !ok {
		return false
	}
	last := len(p) - 1
	for _, part := range p[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, p[last])
}
