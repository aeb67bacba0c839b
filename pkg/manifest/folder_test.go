// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pods is a file with pods of these names.
func pods(names ...string) []byte {
	var b strings.Builder
	b.WriteString("# pods\n")
	for _, n := range names {
		b.WriteString("---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: " + n + "\n")
	}
	return []byte(b.String())
}

// podNames is name@file of each pod, and the problems.
func summary(s State) (names, problems []string) {
	for _, p := range s.Pods {
		names = append(names, p.Name+"@"+p.Source)
	}
	for _, p := range s.Problems {
		problems = append(problems, p.String())
	}
	return names, problems
}

func expect(t *testing.T, s State, names string, problems ...string) {
	t.Helper()
	gotNames, gotProblems := summary(s)
	if got := strings.Join(gotNames, " "); got != names {
		t.Errorf("pods: got %q, want %q", got, names)
	}
	if len(gotProblems) != len(problems) {
		t.Fatalf("problems: got %q, want %q", gotProblems, problems)
	}
	for i, want := range problems {
		if !strings.Contains(gotProblems[i], want) {
			t.Errorf("problem %d: got %q, want %q in it", i, gotProblems[i], want)
		}
	}
}

func TestBadFileKeepsItsLastGoodState(t *testing.T) {
	f := newFolder()
	f.update("a.yaml", []byte("not: a manifest\n"))
	expect(t, f.state(), "", "a.yaml:1: kind: missing")
	f.update("a.yaml", pods("one", "two"))
	f.update("b.yaml", pods("three"))
	expect(t, f.state(), "one@a.yaml three@b.yaml two@a.yaml")
	f.update("a.yaml", append(pods("one", "four"), "bad: field\n"...))
	f.update("b.yaml", pods("five"))
	expect(t, f.state(), "five@b.yaml one@a.yaml two@a.yaml", "a.yaml:12: bad: unknown field")
	f.fail("b.yaml", "cannot be read")
	expect(t, f.state(), "five@b.yaml one@a.yaml two@a.yaml", "a.yaml:12", "b.yaml: cannot be read")
	f.update("a.yaml", pods("four"))
	f.remove("b.yaml")
	expect(t, f.state(), "four@a.yaml")
}

func TestDuplicateInAnotherFileIsRefusedWhole(t *testing.T) {
	f := newFolder()
	f.update("b.yaml", pods("one"))
	expect(t, f.state(), "one@b.yaml")
	f.update("a.yaml", pods("zero", "one"))
	expect(t, f.state(), "one@b.yaml", "a.yaml:11: metadata.name: Pod default/one is already in b.yaml, line 6")
	f.update("b.yaml", pods("two"))
	expect(t, f.state(), "one@a.yaml two@b.yaml zero@a.yaml")
}

func TestObjectsMoveBetweenFilesInOneStep(t *testing.T) {
	f := newFolder()
	f.update("a.yaml", pods("one"))
	f.update("b.yaml", pods("two"))
	f.state()
	f.update("a.yaml", pods("two"))
	f.update("b.yaml", pods("one"))
	expect(t, f.state(), "one@b.yaml two@a.yaml")
}

func TestRefusalCanForceAnother(t *testing.T) {
	f := newFolder()
	f.update("a.yaml", pods("one"))
	f.update("b.yaml", pods("two"))
	f.update("c.yaml", pods("three"))
	f.state()
	f.update("b.yaml", pods("one"))   // a.yaml has it
	f.update("c.yaml", pods("two"))   // b.yaml keeps it
	f.update("d.yaml", pods("three")) // so c.yaml keeps this
	expect(t, f.state(), "one@a.yaml three@c.yaml two@b.yaml",
		"b.yaml:6: metadata.name: Pod default/one is already in a.yaml, line 6",
		"c.yaml:6: metadata.name: Pod default/two is already in b.yaml, line 6",
		"d.yaml:6: metadata.name: Pod default/three is already in c.yaml, line 6")
}

// Whatever happens, no key is twice in the state, a file is taken whole or not
// at all, and a folder without faults equals one read afresh.
func TestFolderProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFolder()
		content := map[string][]byte{}
		file := rapid.SampledFrom([]string{"a.yaml", "b.yaml", "c.yaml"})
		name := rapid.SampledFrom([]string{"p", "q", "r", "s"})
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			at := file.Draw(t, "file")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				f.remove(at)
				delete(content, at)
			case 1:
				content[at] = []byte("bad: true\n")
				f.update(at, content[at])
			default:
				content[at] = pods(rapid.SliceOfDistinct(name, func(s string) string { return s }).Draw(t, "pods")...)
				f.update(at, content[at])
			}
			if rapid.Bool().Draw(t, "apply") {
				checkFolder(t, f, content)
			}
		}
		checkFolder(t, f, content)
	})
}

func checkFolder(t *rapid.T, f *folder, content map[string][]byte) {
	s := f.state()
	seen := map[string]bool{}
	for _, p := range s.Pods {
		if seen[p.Name] {
			t.Fatalf("pod %s is twice in the state", p.Name)
		}
		seen[p.Name] = true
	}
	if len(s.Problems) > 0 {
		return
	}
	fresh := newFolder()
	for name, data := range content {
		fresh.update(name, data)
	}
	if want := fresh.state(); !reflect.DeepEqual(s, want) {
		t.Fatalf("got %+v\nfresh %+v", s, want)
	}
}
