// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// scribe is a ServiceTarget that notes what it is told, in order.
type scribe struct {
	lines []string
	fails string // a line that fails, perhaps after all was done
}

func (s *scribe) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	s.lines = append(s.lines, line)
	if line == s.fails {
		return errors.New("told to fail")
	}
	return nil
}

func (s *scribe) ApplyBackends(rows []model.BackendRow) error {
	for _, r := range rows {
		_ = s.note("backend %d is %d", r.ID, r.State)
	}
	return nil
}

func (s *scribe) DeleteBackends(ids []uint32) error { return s.note("no backend %d", ids) }

func (s *scribe) ApplySlots(t model.SlotTable) error { return s.note("slots %d", t.Backends) }

func (s *scribe) TrimSlots(_, from, to uint32) error { return s.note("no slots %d to %d", from, to) }

func (s *scribe) ApplyFrontends([]model.FrontendRow) error { return s.note("front end") }

func (s *scribe) DeleteFrontends([]model.FrontendKey) error { return s.note("no front end") }

// wants makes these backends, and the slots of service 7, all that is wanted.
func (s *services) wants(backends map[uint32]model.BackendRow, slots []uint32) {
	ch := model.ServiceChanges{Slots: []model.SlotTable{{Service: 7, Backends: slots}}}
	for id := range s.backends.want {
		if _, ok := backends[id]; !ok {
			ch.GoneBackends = append(ch.GoneBackends, id)
		}
	}
	for _, b := range backends {
		ch.Backends = append(ch.Backends, b)
	}
	s.change(ch)
}

// All backends of a service are replaced at once: no call ever finds slots that
// name only those that get nothing new.
func TestBackendsFallAfterTheSlots(t *testing.T) {
	var log scribe
	s := newServices(&log)
	s.adopt(model.ServiceRows{})
	now := time.Now()
	for _, step := range []struct {
		states map[uint32]model.BackendState
		slots  []uint32
		want   []string
	}{
		{map[uint32]model.BackendState{1: model.BackendActive}, []uint32{1},
			[]string{"backend 1 is 0", "slots [1]"}},
		{map[uint32]model.BackendState{1: model.BackendDraining, 2: model.BackendActive}, []uint32{2},
			[]string{"backend 2 is 0", "slots [2]", "backend 1 is 1"}},
		{map[uint32]model.BackendState{1: model.BackendActive, 2: model.BackendUnready}, []uint32{1},
			[]string{"backend 1 is 0", "slots [1]", "backend 2 is 2"}},
		{map[uint32]model.BackendState{1: model.BackendActive}, []uint32{1},
			[]string{"no backend [2]"}},
	} {
		want := map[uint32]model.BackendRow{}
		for id, state := range step.states {
			want[id] = model.BackendRow{ID: id, State: state}
		}
		log.lines = nil
		s.wants(want, step.slots)
		if errs := s.pass(now); len(errs) > 0 {
			t.Fatal(errs)
		}
		if !slices.Equal(log.lines, step.want) {
			t.Errorf("written: %q, want %q", log.lines, step.want)
		}
	}
}

// Slots whose write failed may name what they named and what they should have:
// neither goes before they were written again, nor does what lies behind them.
func TestSlotsThatFailedNameBoth(t *testing.T) {
	log := scribe{}
	s := newServices(&log)
	s.adopt(model.ServiceRows{})
	now := time.Now()
	pass := func(slots ...uint32) []string {
		want := map[uint32]model.BackendRow{}
		for _, id := range slots {
			want[id] = model.BackendRow{ID: id}
		}
		log.lines = nil
		s.wants(want, slots)
		s.pass(now)
		now = now.Add(time.Minute)
		return log.lines
	}
	for _, step := range []struct {
		fails string
		slots []uint32
		want  []string
	}{
		{"", []uint32{1}, []string{"backend 1 is 0", "slots [1]"}},
		{"slots [2 2 2]", []uint32{2, 2, 2}, []string{"backend 2 is 0", "slots [2 2 2]"}},
		{"", []uint32{3}, []string{"backend 3 is 0", "slots [3]", "no slots 1 to 3", "no backend [1 2]"}},
		{"no slots 1 to 2", []uint32{3, 4}, []string{"backend 4 is 0", "slots [3 4]"}},
		{"no slots 1 to 2", []uint32{3}, []string{"no slots 1 to 2"}},
		{"", []uint32{3}, []string{"slots [3]", "no slots 1 to 2", "no backend [4]"}},
	} {
		log.fails = step.fails
		got := pass(step.slots...)
		for _, line := range got {
			if line == "no backend [2 1]" { // in any order
				got[len(got)-1] = "no backend [1 2]"
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("slots %d: written: %q, want %q", step.slots, got, step.want)
		}
	}
}

// A table that goes on failing is one doubt, however often it is tried.
func TestDoubtDoesNotGrowWithTheAttempts(t *testing.T) {
	for _, held := range [][]uint32{nil, {1, 1}} {
		log := scribe{fails: "slots [2 3]"}
		s := newServices(&log)
		s.adopt(model.ServiceRows{Slots: map[uint32][]uint32{7: held}})
		if held == nil {
			s.adopt(model.ServiceRows{})
		}
		s.wants(map[uint32]model.BackendRow{2: {ID: 2}, 3: {ID: 3}}, []uint32{2, 3})
		now := time.Now()
		for range 40 {
			s.pass(now)
			now = now.Add(time.Hour)
		}
		if tried := slices.Index(log.lines, log.fails); tried < 0 || len(s.slots.possible(7)) > 3 {
			t.Errorf("from slots %d, after 40 attempts %d tables are possible", held, len(s.slots.possible(7)))
		}
	}
}

// full is a ServiceTarget whose maps have no room.
type full struct{ scribe }

func (*full) ApplyBackends([]model.BackendRow) error { return errors.New("the map is full") }

// A map that is full refuses thousands of rows: that is one line, and a number.
func TestManyRowsThatFailAreOneError(t *testing.T) {
	r := New(nil, time.Now)
	r.services = newServices(&full{})
	r.services.adopt(model.ServiceRows{})
	var ch model.ServiceChanges
	for id := range uint32(1000) {
		ch.Backends = append(ch.Backends, model.BackendRow{ID: id + 1})
	}
	r.ChangeServices(ch)
	err := r.Pass(t.Context(), Wanted{})
	if err == nil || strings.Count(err.Error(), "full") != 1 || !strings.HasPrefix(err.Error(), "1000 rows, such as backend ") {
		t.Errorf("error %v", err)
	}
	if n := len(r.Failing()["backend"]); n != 1000 {
		t.Errorf("%d rows count as failing", n)
	}
}
