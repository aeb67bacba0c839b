// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func broken() []byte { return []byte("apiVersion: v1\nkind: Pod\nmetadata: {nam: x}\n") }

const brokenMessage = `a.yaml:3: metadata.nam: unknown field; did you mean "name"?`

// kept waits until the copies are of these files.
func (s *scene) kept(names ...string) {
	s.Helper()
	s.until("copies of "+strings.Join(names, " "), func() bool {
		entries, _ := os.ReadDir(s.copies())
		var have []string
		for _, e := range entries {
			have = append(have, e.Name())
		}
		return slices.Equal(have, names)
	})
}

func (s *scene) until(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not seen: %s", what)
		}
	}
}

func (s *scene) sees(name string, want []byte) {
	s.Helper()
	s.until("a copy of "+name+" with its content", func() bool {
		data, err := readCopy(filepath.Join(s.copies(), name))
		return err == nil && string(data) == string(want)
	})
}

// What a file held when it was last right outlasts the agent: in no state that
// the consumer sees is it missing.
func TestBadFileAtRestartHasItsLastGoodContent(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.write("b.yaml", pods("two"))
	s.wait("one@a.yaml two@b.yaml", "")
	s.write("a.yaml", pods("uno"))
	s.wait("two@b.yaml uno@a.yaml", "")
	s.kept("a.yaml", "b.yaml")
	s.sees("a.yaml", pods("uno"))
	s.restart(func() {
		s.write("a.yaml", broken())
		s.write("b.yaml", pods("deux"))
	})
	s.wait("deux@b.yaml uno@a.yaml", brokenMessage)
	if _, n := s.rec.last(); n != 1 {
		t.Errorf("%d states before all was there, want 1", n)
	}
	if state, _ := s.rec.last(); !state.Problems[0].Kept {
		t.Error("the problem does not say that the last good content is in force")
	}
	s.restart(func() {}) // a fault kept over two restarts
	s.wait("deux@b.yaml uno@a.yaml", brokenMessage)
	s.write("a.yaml", pods("eins"))
	s.wait("deux@b.yaml eins@a.yaml", "")
	s.sees("a.yaml", pods("eins"))
}

func TestCopyGoesWithItsFile(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.write("b.yaml", pods("two"))
	s.wait("one@a.yaml two@b.yaml", "")
	s.must(os.Remove(filepath.Join(s.dir, "a.yaml")))
	s.wait("two@b.yaml", "")
	s.kept("b.yaml")
	s.restart(func() { s.must(os.Remove(filepath.Join(s.dir, "b.yaml"))) })
	s.wait("", "")
	s.kept()
}

func TestDamagedCopyIsReportedAndNotUsed(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one", "two"))
	s.write("b.yaml", pods("three"))
	s.wait("one@a.yaml three@b.yaml two@a.yaml", "")
	s.kept("a.yaml", "b.yaml")
	s.restart(func() {
		s.write("a.yaml", broken())
		for _, name := range []string{"a.yaml", "b.yaml"} { // cut short: still valid YAML
			path := filepath.Join(s.copies(), name)
			data, err := os.ReadFile(path)
			s.must(err)
			s.must(os.WriteFile(path, data[:len(data)-3], 0o600))
		}
		s.must(os.WriteFile(filepath.Join(s.copies(), ".c.yaml.123"), nil, 0o600))
	})
	s.wait("three@b.yaml", "a.yaml: the copy of its last good content is damaged and not used")
	state, _ := s.rec.last()
	if len(state.Problems) != 2 || state.Problems[0].Kept || state.Problems[1].String() != brokenMessage {
		t.Errorf("problems: %+v", state.Problems)
	}
	s.kept("a.yaml", "b.yaml")
	s.write("a.yaml", pods("four"))
	s.wait("four@a.yaml three@b.yaml", "")
	s.sees("a.yaml", pods("four"))
	s.sees("b.yaml", pods("three"))
}

// A release that reads more strictly, or a crash between two writes, can leave
// copies that do not go together.
func TestCopiesThatCannotBeTaken(t *testing.T) {
	s := play(t, func(s *scene) {
		existing(s)
		c := newCopies(s.copies())
		s.must(c.keep("a.yaml", pods("one")))
		s.must(c.keep("b.yaml", pods("one")))
		s.must(c.keep("c.yaml", broken()))
		for _, name := range []string{"a.yaml", "b.yaml", "c.yaml"} {
			s.write(name, broken())
		}
	})
	s.wait("one@a.yaml", "b.yaml: the copy of its last good content is not used: b.yaml:6: metadata.name: Pod default/one is already in a.yaml")
	state, _ := s.rec.last()
	_, problems := summary(state)
	if all := strings.Join(problems, "\n"); !strings.Contains(all, "c.yaml: the copy of its last good content is not used: c.yaml:3: ") {
		t.Errorf("problems: %s", all)
	}
}

func TestFolderThatCannotBeListedAtRestartChangesNothing(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	s.kept("a.yaml")
	s.restart(func() {
		s.must(os.RemoveAll(s.dir))
		s.must(os.WriteFile(s.dir, nil, 0o644))
	})
	s.wait("one@a.yaml", "reading the manifest folder: ")
	s.kept("a.yaml")
}

func TestCopyThatCannotBeWrittenIsAProblem(t *testing.T) {
	s := play(t, func(s *scene) {
		existing(s)
		s.must(os.MkdirAll(filepath.Join(s.copies(), "a.yaml", "in the way"), 0o755))
	})
	s.wait("", "")
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "a.yaml: its content is in force, but would not outlast a restart")
	s.must(os.RemoveAll(filepath.Join(s.copies(), "a.yaml")))
	s.write("b.yaml", pods("two"))
	s.wait("one@a.yaml two@b.yaml", "")
	s.kept("a.yaml", "b.yaml")
}

func TestCopiesThatCannotBeListedStopTheSource(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	src := New(Config{Dir: t.TempDir(), Copies: dir}, &recorder{}, slog.New(slog.DiscardHandler))
	if err := src.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "reading the copies of manifests") {
		t.Errorf("got %v", err)
	}
}

func TestCopyIsWrittenOnlyWhenItChanges(t *testing.T) {
	c := newCopies(t.TempDir())
	path := filepath.Join(c.dir, "a.yaml")
	for i, step := range []struct {
		content []byte
		written bool
	}{{pods("one"), true}, {pods("one"), false}, {pods("two"), true}} {
		if err := c.keep("a.yaml", step.content); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); (err == nil) != step.written {
			t.Errorf("step %d: written is %v", i, !step.written)
		}
	}
}
