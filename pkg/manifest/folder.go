// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"maps"
	"slices"
)

// folder is the memory of what each file holds. It does no I/O.
//
// Invariant: no two files hold the same key in good.
type folder struct {
	files    map[string]*file
	problems []Problem // of the folder itself
}

type file struct {
	good      []Object  // in effect
	data      []byte    // what good was decoded from; nil: the file never was right
	kept      bool      // there is a copy of data
	candidate content   // decoded without a fault, not yet taken into effect
	pending   bool      // candidate is to be considered
	problems  []Problem // of the content, or of reading it
	conflicts []Problem // keys that another file holds
	copyFault string    // what is wrong with the copy of the last good content
}

// content is what a file may come to hold.
type content struct {
	objects []Object
	data    []byte
}

func newFolder() *folder { return &folder{files: make(map[string]*file)} }

func (f *folder) at(name string) *file {
	if f.files[name] == nil {
		f.files[name] = &file{}
	}
	return f.files[name]
}

// update takes the new content of a file.
func (f *folder) update(name string, data []byte) {
	objects, problems := Decode(name, data)
	e := f.at(name)
	e.problems, e.candidate, e.pending = problems, content{}, false
	if len(problems) == 0 {
		e.candidate, e.pending = content{objects, data}, true
	}
}

// restore puts the last good contents of a former run in effect; the files
// themselves are read after it. A copy that cannot be taken is noted.
func (f *folder) restore(good map[string][]byte, damaged map[string]error) {
	for name, data := range good {
		f.update(name, data)
	}
	f.settle()
	for _, e := range f.files {
		if faults := append(e.problems, e.conflicts...); len(faults) > 0 {
			e.copyFault = fmt.Sprintf("the copy of its last good content is not used: %s", faults[0])
		}
		e.candidate, e.pending, e.problems, e.conflicts = content{}, false, nil, nil
	}
	for name, err := range damaged {
		f.at(name).copyFault = fmt.Sprintf("the copy of its last good content is damaged and not used: %v", err)
	}
}

// fail notes that a file cannot be read; what it held stays.
func (f *folder) fail(name, message string) {
	e := f.at(name)
	e.problems, e.candidate, e.pending = []Problem{{File: name, Message: message}}, content{}, false
}

// remove forgets a file with what it held.
func (f *folder) remove(name string) { delete(f.files, name) }

// state takes into effect what it can and returns the whole.
func (f *folder) state() State {
	f.settle()
	var objects []Object
	problems := slices.Clone(f.problems)
	for _, name := range f.names() {
		e := f.files[name]
		objects = append(objects, e.good...)
		problems = append(problems, e.faults(name)...)
	}
	s := build(objects)
	sortProblems(problems)
	s.Problems = problems
	return s
}

// faults is what is wrong with a file at present.
func (e *file) faults(name string) []Problem {
	out := slices.Concat(e.problems, e.conflicts)
	if e.copyFault != "" {
		out = append(out, Problem{File: name, Message: e.copyFault})
	}
	for i := range out {
		out[i].Kept = e.data != nil
	}
	return out
}

func (f *folder) names() []string { return slices.Sorted(maps.Keys(f.files)) }

// settle decides which candidates take effect. A candidate with a key that
// another file holds is refused, and its file keeps its last good content;
// among new files the first by name has the key. All candidates are looked at
// together, so that an object may move from file to file. Refusing one puts
// its old keys back in force, which can refuse another: the search repeats
// until nothing changes, at the latest with all candidates refused, which is
// the previous state and free of conflicts.
func (f *folder) settle() {
	names := f.names()
	refused := make(map[string][]Problem)
	for {
		before := len(refused)
		owner := f.owners(names, refused)
		for _, name := range names {
			e := f.files[name]
			if !e.pending || refused[name] != nil {
				continue
			}
			if clash := claim(owner, name, e.candidate.objects); clash != nil {
				refused[name] = clash
			}
		}
		if len(refused) == before {
			break
		}
	}
	for _, name := range names {
		e := f.files[name]
		e.conflicts = refused[name]
		if e.pending && e.conflicts == nil {
			e.good, e.data, e.kept, e.copyFault = e.candidate.objects, e.candidate.data, false, ""
			e.candidate, e.pending = content{}, false
		}
	}
}

// origin is where an object stands.
type origin struct {
	file string
	line int
}

// owners maps the keys that are in force whatever becomes of the candidates.
func (f *folder) owners(names []string, refused map[string][]Problem) map[Key]origin {
	owner := make(map[Key]origin)
	for _, name := range names {
		e := f.files[name]
		if e.pending && refused[name] == nil {
			continue
		}
		for _, o := range e.good {
			owner[o.Key] = origin{name, o.Line}
		}
	}
	return owner
}

// claim enters a file's keys, or none of them if another file has one.
func claim(owner map[Key]origin, name string, objects []Object) []Problem {
	var clash []Problem
	for _, o := range objects {
		if at, taken := owner[o.Key]; taken {
			clash = append(clash, Problem{File: name, Line: o.Line, Field: "metadata.name", Message: fmt.Sprintf(
				"%s is already in %s, line %d; rename or remove one of the two", o.Key, at.file, at.line)})
		}
	}
	if clash != nil {
		return clash
	}
	for _, o := range objects {
		owner[o.Key] = origin{name, o.Line}
	}
	return nil
}
