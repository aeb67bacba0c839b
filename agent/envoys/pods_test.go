// SPDX-License-Identifier: Apache-2.0

package envoys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/pkg/model"
)

const (
	first  = "00000000-0000-4000-8000-000000000001"
	second = "00000000-0000-4000-8000-000000000002"
	third  = "00000000-0000-4000-8000-000000000003"
)

// kernel is a row that keeps groups which are not said again.
type kernel struct {
	row  model.Proxy
	sets int
}

func (k *kernel) SetProxy(p model.Proxy) error {
	k.sets++
	for block, group := range p.Cgroups {
		if p != (model.Proxy{}) && group == "" {
			p.Cgroups[block] = k.row.Cgroups[block]
		}
	}
	k.row = p
	return nil
}

func (k *kernel) PreferredBlock() (uint8, error) { return k.row.Prefer, nil }

// Set makes it the path as well.
func (k *kernel) Set(bool) error { return nil }

// scene is a node with the groups of pods.
type scene struct {
	*testing.T
	root string
	kernel
	pods *Pods
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, root: t.TempDir()}
	for _, pod := range []string{first, second, third} {
		if err := os.MkdirAll(s.group(pod), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.restart()
	return s
}

// restart begins with what the kernel knows, as a new agent does.
func (s *scene) restart() {
	s.Helper()
	var err error
	if s.pods, err = NewPods(&s.kernel, &s.kernel, s.root); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) group(pod string) string { return filepath.Join(s.root, "kubepods/burstable/pod"+pod) }

func (s *scene) calls(pod string, block uint8, started int64) {
	s.Helper()
	if err := s.pods.Admit(bootstrap.Proxy{Block: block, Pod: pod, Started: started}); err != nil {
		s.Error(err)
	}
}

func (s *scene) set(active bool) {
	s.Helper()
	if err := s.pods.Set(active); err != nil {
		s.Error(err)
	}
}

// knows asserts what the kernel knows: the pods by block.
func (s *scene) knows(prefer uint8, pods ...string) {
	s.Helper()
	want := model.Proxy{Prefer: prefer, Active: true}
	for block, pod := range pods {
		if pod != "" {
			want.Cgroups[block] = s.group(pod)
		}
	}
	if s.row != want {
		s.Errorf("the kernel knows %+v, want %+v", s.row, want)
	}
}

func TestTheNewestGetsNewConnections(t *testing.T) {
	s := newScene(t)
	s.set(true)
	s.knows(0)
	s.calls(first, 0, 100)
	s.knows(0, first)
	s.calls(second, 1, 200)
	s.knows(1, first, second)
	s.calls(first, 0, 100) // again: its Envoy has crashed
	s.knows(1, first, second)
	s.calls(third, 0, 300)
	s.knows(0, third, second)
}

func TestWhoLeavesGetsNoNewConnections(t *testing.T) {
	s := newScene(t)
	s.set(true)
	leave := func(pod string, block uint8) {
		t.Helper()
		if err := s.pods.Admit(bootstrap.Proxy{Block: block, Pod: pod, Started: 200, Leaving: true}); err != nil {
			t.Error(err)
		}
	}
	s.calls(first, 0, 100)
	leave(first, 0)
	s.knows(0, first) // there is no other
	s.calls(second, 1, 200)
	s.knows(1, first, second)
	s.calls(first, 0, 100)
	leave(second, 1)
	s.knows(0, first, second)
	s.calls(third, 1, 300)
	s.knows(1, first, third)
}

func TestAnAgentThatStartsChangesNothing(t *testing.T) {
	s := newScene(t)
	s.set(true)
	s.calls(first, 0, 100)
	s.calls(second, 1, 200)
	for _, order := range [][2]string{{first, second}, {second, first}} {
		s.restart()
		s.set(true)
		s.knows(1, first, second)
		for _, pod := range order {
			if pod == first {
				s.calls(first, 0, 100)
			} else {
				s.calls(second, 1, 200)
			}
			s.knows(1, first, second)
		}
	}
	s.restart()
	s.calls(third, 0, 300) // before it is said that rulesets are in force
	s.set(true)
	s.calls(second, 1, 200)
	s.knows(0, third, second)
}

func TestNothingInForceNeedsNoGroups(t *testing.T) {
	s := newScene(t)
	s.calls(first, 0, 100)
	if s.sets != 0 {
		t.Error("the kernel was told of an Envoy that has nothing to do")
	}
	s.set(true)
	s.knows(0, first)
	s.set(false)
	if s.row != (model.Proxy{}) {
		t.Errorf("the kernel still knows %+v", s.row)
	}
	s.set(true)
	s.knows(0, first)
	if err := os.Remove(s.group(first)); err != nil {
		t.Fatal(err)
	}
	s.calls(second, 1, 200) // the group of the first is gone, and no obstacle
	s.knows(1, first, second)
}

func TestWhoIsNoPodOfThisNodeIsNotLetIn(t *testing.T) {
	s := newScene(t)
	s.set(true)
	for _, pod := range []string{"", "..", "00000000-0000-4000-8000-000000000009"} {
		if err := s.pods.Admit(bootstrap.Proxy{Pod: pod, Started: 1}); err == nil {
			t.Errorf("%q was let in", pod)
		}
	}
	s.knows(0)
	if text, err := s.pods.State(nil); err == nil || !strings.Contains(err.Error(), "not let in") {
		t.Errorf("the state is %q, %v", text, err)
	}
	s.calls(first, 0, 100)
	text, err := s.pods.State([]server.Session{{Proxy: bootstrap.Proxy{Pod: first}}})
	if err != nil || !strings.Contains(text, first) {
		t.Errorf("the state is %q, %v", text, err)
	}
}
