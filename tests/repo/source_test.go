// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

const (
	maxLines     = 400
	maxTestLines = 500
	maxFunc      = 80
	maxTestFunc  = 150
)

// spdx is the licence line that a file needs, or "".
func spdx(f file) string {
	const apache = "SPDX-License-Identifier: Apache-2.0"
	switch base := path.Base(f.name); {
	case strings.Contains(f.name, "testdata/"):
		return ""
	case strings.HasPrefix(f.name, "bpf/") && (f.ext() == ".c" || f.ext() == ".h"):
		return "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
	case base == "Makefile", base == "Dockerfile", f.name == ".ci/run":
		return apache
	}
	switch f.ext() {
	case ".go", ".sh", ".proto", ".service", ".yaml", ".yml":
		return apache
	}
	return ""
}

func TestSourcesNameTheirLicence(t *testing.T) {
	for _, f := range files(t) {
		want := spdx(f)
		if want == "" || f.generated() {
			continue
		}
		lines := bytes.SplitN(f.content, []byte("\n"), 3)
		head := lines[0]
		if bytes.HasPrefix(head, []byte("#!")) && len(lines) > 1 {
			head = lines[1]
		}
		if !bytes.Contains(head, []byte(want)) {
			t.Errorf("%s: the first line must have %q", f.name, want)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range files(t) {
		limit := maxLines
		switch {
		case f.generated() || strings.Contains(f.name, "testdata/"):
			continue
		case strings.HasSuffix(f.name, "_test.go"):
			limit = maxTestLines
		case f.ext() != ".go" && f.ext() != ".c" && f.ext() != ".h":
			continue
		}
		if n := f.lines(); n > limit {
			t.Errorf("%s has %d lines; the limit is %d", f.name, n, limit)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		limit := maxFunc
		if f.test() {
			limit = maxTestFunc
		}
		if f.generated() {
			continue
		}
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.line(fn.End())-f.line(fn.Pos()) >= limit {
				t.Errorf("%s: %s has %d lines; the limit is %d", f.name, fn.Name, f.line(fn.End())-f.line(fn.Pos())+1, limit)
			}
		}
	}
	for _, f := range files(t) {
		if !strings.HasPrefix(f.name, "bpf/") || f.generated() {
			continue
		}
		begin := 0
		for i, line := range strings.Split(string(f.content), "\n") {
			if line == "{" {
				begin = i
			}
			if line == "}" && begin > 0 && i-begin > maxFunc {
				t.Errorf("%s:%d: function has %d lines; the limit is %d", f.name, begin+1, i-begin+1, maxFunc)
			}
		}
	}
}

func TestPackagesAreDescribedAndNamed(t *testing.T) {
	described := make(map[string]bool)
	nowhere := regexp.MustCompile(`(^|/)(util|utils|common|helper|helpers|misc|shared|base)(/|$)`)
	for _, f := range goFiles(t) {
		dir := f.dir()
		if nowhere.MatchString(dir) {
			t.Errorf("%s: name a folder after its job", dir)
		}
		described[dir] = described[dir] || f.tree.Doc != nil || f.generated()
	}
	for dir, ok := range described {
		if !ok {
			t.Errorf("%s: the package has no package comment", dir)
		}
	}
}

func TestNoInitAndNoMutableGlobals(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated() {
			continue
		}
		for _, d := range f.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s:%d: no init functions: construct in the wiring", f.name, f.line(d.Pos()))
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					checkGlobals(t, f, d)
				}
			}
		}
	}
}

// checkGlobals lets pass what is set once by its declaration: errors, compiled
// expressions, tables, embedded files, checks of interfaces.
func checkGlobals(t *testing.T, f goFile, d *ast.GenDecl) {
	t.Helper()
	embedded := d.Doc != nil && strings.Contains(fmt.Sprint(d.Doc.List[len(d.Doc.List)-1].Text), "//go:embed")
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		if v.Names[0].Name == "_" || len(v.Values) > 0 || embedded || v.Doc != nil {
			continue
		}
		t.Errorf("%s:%d: %s is a mutable global: give it an owner", f.name, f.line(v.Pos()), v.Names[0])
	}
}
