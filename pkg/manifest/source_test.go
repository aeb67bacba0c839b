// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a consumer that remembers every state.
type recorder struct {
	mu     sync.Mutex
	states []State
	refuse int // so many calls fail first
	wake   chan struct{}
}

func (r *recorder) Apply(s State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 {
		r.refuse--
		return errors.New("no")
	}
	r.states = append(r.states, s)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

func (r *recorder) last() (State, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return State{}, 0
	}
	return r.states[len(r.states)-1], len(r.states)
}

// scene is a source that runs on a folder of its own.
type scene struct {
	*testing.T
	root, dir string
	rec       *recorder
	stop      func() // ends the source that runs
}

func play(t *testing.T, prepare func(s *scene)) *scene {
	t.Helper()
	root := t.TempDir()
	s := &scene{T: t, root: root, dir: filepath.Join(root, "manifests"), rec: &recorder{wake: make(chan struct{}, 1)}}
	prepare(s)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// start runs a source, as a starting agent does.
func (s *scene) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	// Far longer than any wait below: events must do.
	src := New(Config{Dir: s.dir, Copies: s.copies(), Rescan: time.Hour}, s.rec, slog.New(slog.DiscardHandler))
	go func() { done <- src.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	}
}

// restart stops the source, changes what is on disk, and starts another, whose
// states alone count.
func (s *scene) restart(meanwhile func()) {
	s.Helper()
	s.stop()
	meanwhile()
	s.rec = &recorder{wake: make(chan struct{}, 1)}
	s.start()
}

func (s *scene) copies() string { return filepath.Join(s.root, "state", "manifests") }

func (s *scene) write(path string, data []byte) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, path), data, 0o644); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// wait waits until the state has these pods and a problem with this text in it
// (or none), and returns how long that took.
func (s *scene) wait(names, problem string) time.Duration {
	s.Helper()
	begin := time.Now()
	deadline := time.After(5 * time.Second)
	for {
		state, n := s.rec.last()
		gotNames, gotProblems := summary(state)
		text := strings.Join(gotProblems, "; ")
		if n > 0 && strings.Join(gotNames, " ") == names && (text == "") == (problem == "") && strings.Contains(text, problem) {
			return time.Since(begin)
		}
		select {
		case <-s.rec.wake:
		case <-deadline:
			s.Fatalf("pods %q, problems %q; want %q and %q", gotNames, gotProblems, names, problem)
		}
	}
}

func existing(s *scene) { s.must(os.Mkdir(s.dir, 0o755)) }

func TestFilesComeChangeAndGo(t *testing.T) {
	s := play(t, existing)
	s.wait("", "")
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	s.write("b.yml", pods("two"))
	s.write("c.json", []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"three"}}`))
	s.write("ignored.txt", pods("four"))
	s.write(".hidden.yaml", pods("five"))
	s.wait("one@a.yaml three@c.json two@b.yml", "")
	s.write("a.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {nam: x}\n"))
	s.wait("one@a.yaml three@c.json two@b.yml", `a.yaml:3: metadata.nam: unknown field; did you mean "name"?`)
	s.write("a.yaml", pods("uno"))
	s.wait("three@c.json two@b.yml uno@a.yaml", "")
	s.must(os.Remove(filepath.Join(s.dir, "b.yml")))
	s.wait("three@c.json uno@a.yaml", "")
	s.must(os.Rename(filepath.Join(s.dir, "a.yaml"), filepath.Join(s.dir, "z.yaml")))
	s.wait("three@c.json uno@z.yaml", "")
}

func TestBadFileAtStartContributesNothing(t *testing.T) {
	s := play(t, func(s *scene) {
		existing(s)
		s.write("a.yaml", []byte("kind: {}\n"))
		s.write("b.yaml", pods("one"))
	})
	s.wait("one@b.yaml", "a.yaml:1: kind: missing")
}

func TestChangeIsAppliedWithin200ms(t *testing.T) {
	s := play(t, existing)
	s.wait("", "")
	best := time.Hour
	for i := range 5 {
		name := string(rune('a' + i))
		s.write("a.yaml", pods(name))
		best = min(best, s.wait(name+"@a.yaml", ""))
	}
	t.Logf("the fastest of 5 changes took %v", best)
	if best > 200*time.Millisecond {
		t.Errorf("the fastest of 5 changes took %v", best)
	}
}

// A writer that truncates, pauses and goes on is not seen in between.
func TestHalfWrittenFileDoesNotFlap(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one", "two"))
	s.wait("one@a.yaml two@a.yaml", "")
	_, before := s.rec.last()
	f, err := os.Create(filepath.Join(s.dir, "a.yaml"))
	s.must(err)
	whole := pods("one", "two", "three")
	pace := time.NewTicker(DefaultQuiet / 5)
	defer pace.Stop()
	for i := 0; i < len(whole); i += 10 {
		_, err := f.Write(whole[i:min(i+10, len(whole))])
		s.must(err)
		<-pace.C
	}
	s.must(f.Close())
	s.wait("one@a.yaml three@a.yaml two@a.yaml", "")
	if _, after := s.rec.last(); after != before+1 {
		t.Errorf("%d states were applied for one change", after-before)
	}
}

// What is written so far would be a valid file, and the writer is in no hurry.
func TestFileThatIsOpenForWritingIsLeftAlone(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	f, err := os.Create(filepath.Join(s.dir, "a.yaml"))
	s.must(err)
	_, err = f.Write(pods("two"))
	s.must(err)
	for _, other := range []string{"b", "c", "d"} { // each takes longer than the quiet time
		s.write("z.yaml", pods(other))
		s.wait(strings.Join(sorted("one@a.yaml", other+"@z.yaml"), " "), "")
	}
	_, err = f.Write([]byte("---\napiVersion: v1\nkind: Pod\nmetadata: {name: three}\n"))
	s.must(err)
	s.must(f.Close())
	s.wait("d@z.yaml three@a.yaml two@a.yaml", "")
}

func sorted(s ...string) []string { slices.Sort(s); return s }

func TestAtomicReplaceAndReplaceByRemoval(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	_, before := s.rec.last()
	s.write(".a.tmp", pods("two"))
	s.must(os.Rename(filepath.Join(s.dir, ".a.tmp"), filepath.Join(s.dir, "a.yaml")))
	s.wait("two@a.yaml", "")
	s.must(os.Remove(filepath.Join(s.dir, "a.yaml")))
	s.write("a.yaml", pods("three"))
	s.wait("three@a.yaml", "")
	if _, after := s.rec.last(); after != before+2 {
		t.Errorf("%d states were applied for two changes", after-before)
	}
}

func TestFolderIsCreatedLaterRemovedAndMadeAnew(t *testing.T) {
	s := play(t, func(*scene) {})
	s.wait("", "")
	for _, name := range []string{"one", "two", "three"} {
		s.must(os.MkdirAll(s.dir, 0o755))
		s.write("a.yaml", pods(name))
		s.wait(name+"@a.yaml", "")
		s.must(os.RemoveAll(s.dir))
		s.wait("", "")
	}
	other := filepath.Join(s.root, "other")
	s.must(os.Mkdir(other, 0o755))
	s.must(os.WriteFile(filepath.Join(other, "a.yaml"), pods("four"), 0o644))
	s.must(os.Rename(other, s.dir))
	s.wait("four@a.yaml", "")
	s.write("a.yaml", pods("five"))
	s.wait("five@a.yaml", "")
}

func TestFolderBelowOneThatDoesNotExist(t *testing.T) {
	s := play(t, func(s *scene) { s.dir = filepath.Join(s.root, "etc", "weft", "manifests") })
	s.wait("", "")
	s.must(os.MkdirAll(s.dir, 0o755))
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
}

// A mounted ConfigMap: a.yaml → ..data/a.yaml, ..data → a folder with a time
// in its name, replaced by renaming a new link over the old one.
func TestMountedConfigMap(t *testing.T) {
	publish := func(s *scene, version string, names ...string) {
		s.must(os.Mkdir(filepath.Join(s.dir, version), 0o755))
		s.write(version+"/a.yaml", pods(names...))
		s.must(os.Symlink(version, filepath.Join(s.dir, "..data_tmp")))
		s.must(os.Rename(filepath.Join(s.dir, "..data_tmp"), filepath.Join(s.dir, "..data")))
	}
	s := play(t, func(s *scene) {
		existing(s)
		publish(s, "..v1", "one")
		s.must(os.Symlink("..data/a.yaml", filepath.Join(s.dir, "a.yaml")))
	})
	s.wait("one@a.yaml", "")
	publish(s, "..v2", "two")
	s.must(os.RemoveAll(filepath.Join(s.dir, "..v1")))
	s.wait("two@a.yaml", "")
	s.write("..v2/a.yaml", pods("three"))
	s.wait("three@a.yaml", "")
}

func TestFolderIsALink(t *testing.T) {
	target := func(s *scene, n string) string { return filepath.Join(s.root, "real"+n) }
	s := play(t, func(s *scene) {
		for _, n := range []string{"1", "2"} {
			s.must(os.Mkdir(target(s, n), 0o755))
			s.must(os.WriteFile(filepath.Join(target(s, n), "a.yaml"), pods("pod"+n), 0o644))
		}
		s.must(os.Symlink(target(s, "1"), s.dir))
	})
	s.wait("pod1@a.yaml", "")
	s.must(os.Symlink(target(s, "2"), s.dir+".new"))
	s.must(os.Rename(s.dir+".new", s.dir))
	s.wait("pod2@a.yaml", "")
	s.write("a.yaml", pods("pod3"))
	s.wait("pod3@a.yaml", "")
}

func TestWhatCannotBeReadIsReported(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	s.must(os.Remove(filepath.Join(s.dir, "a.yaml")))
	s.must(os.Symlink("nowhere", filepath.Join(s.dir, "a.yaml")))
	s.wait("one@a.yaml", "a.yaml: cannot be read: no such file or directory; mend the link")
}

func TestConsumerIsAskedAgainAfterAnError(t *testing.T) {
	s := play(t, func(s *scene) {
		existing(s)
		s.rec.refuse = 1
		s.write("a.yaml", pods("one"))
	})
	s.wait("one@a.yaml", "")
}

func TestFolderThatCannotBeListedChangesNothing(t *testing.T) {
	s := play(t, existing)
	s.write("a.yaml", pods("one"))
	s.wait("one@a.yaml", "")
	s.must(os.Rename(s.dir, s.dir+".away"))
	s.must(os.WriteFile(s.dir, nil, 0o644))
	s.wait("one@a.yaml", "reading the manifest folder: ")
	s.must(os.Remove(s.dir))
	s.must(os.Rename(s.dir+".away", s.dir))
	s.wait("one@a.yaml", "")
}
