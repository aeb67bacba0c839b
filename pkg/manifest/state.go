// SPDX-License-Identifier: Apache-2.0

// Package manifest is the source of a node without Kubernetes: a folder of
// manifests in YAML or JSON, of the same kinds that Kubernetes has. It watches
// the folder and hands the whole state to its consumer whenever that changes.
//
//	files ─scan (I/O)→ bytes ─Decode (pure)→ objects ─folder (pure)→ State ─→ Consumer
//	                                                     ↑↓
//	                                  copies (I/O) of what each file last held rightly
//
// A file is the unit of trust: while one thing in it is wrong, everything it
// held when it was last right stays, also over a restart, and the other files go
// on. A file with a fault that never was right contributes nothing.
package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/model"
)

// State is all that the folder holds. Each list is sorted by key and holds a
// key once.
type State struct {
	Pods           []model.Pod
	Namespaces     []model.Namespace // those declared, and those in use
	Services       []model.Service
	EndpointSlices []model.EndpointSlice
	Policies       []model.Policy
	Problems       []Problem // sorted by file, line
}

// Consumer is given the state.
type Consumer interface {
	// Apply replaces the previous state. It is called from one goroutine; the
	// first call tells that the folder has been read. After an error it is
	// called again with what is then the state.
	Apply(State) error
}

// Problem is one fault in one file.
type Problem struct {
	File    string // name in the folder; empty: the folder itself
	Line    int    // 0: the file as a whole
	Field   string // path of the field; empty: the document as a whole
	Message string // what is wrong and what to do
	Kept    bool   // what the file held when it was last right is in force
	Object  Key    // what the fault is in, as far as the file says; zero: unknown
}

// String is file:line: field: message, without the parts that are unknown.
func (p Problem) String() string {
	place := p.File
	if p.Line > 0 {
		place = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	parts := []string{place, p.Field, p.Message}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// build sorts objects, whose keys differ, into a state.
func build(objects []Object) State {
	var s State
	inUse := map[string]bool{convert.DefaultNamespace: true}
	declared := map[string]bool{}
	for _, o := range objects {
		if o.Key.Namespace != "" {
			inUse[o.Key.Namespace] = true
		}
		s.Add(o)
	}
	for _, ns := range s.Namespaces {
		declared[ns.Name] = true
	}
	for name := range inUse {
		if !declared[name] {
			s.Namespaces = append(s.Namespaces, convert.ImplicitNamespace(name))
		}
	}
	s.sort()
	return s
}

// Add puts what an object is into the list of its kind, as the last one.
func (s *State) Add(o Object) {
	switch v := o.Value.(type) {
	case model.Pod:
		s.Pods = append(s.Pods, v)
	case model.Namespace:
		s.Namespaces = append(s.Namespaces, v)
	case model.Service:
		s.Services = append(s.Services, v)
	case model.EndpointSlice:
		s.EndpointSlices = append(s.EndpointSlices, v)
	case []model.Policy:
		s.Policies = append(s.Policies, v...)
	}
}

func (s *State) sort() {
	slices.SortFunc(s.Pods, func(a, b model.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Namespaces, func(a, b model.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Services, func(a, b model.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.EndpointSlices, func(a, b model.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Policies, func(a, b model.Policy) int {
		return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Namespace, b.Key.Namespace),
			cmp.Compare(a.Key.Name, b.Key.Name), cmp.Compare(a.Spec, b.Spec))
	})
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
}
