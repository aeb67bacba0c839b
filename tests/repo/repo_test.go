// SPDX-License-Identifier: Apache-2.0

// Package repo holds the rules of the house as tests: what no reviewer should
// have to look for.
package repo

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/weftmesh/weft"

// file is one file of the repository, by its path from the root.
type file struct {
	name    string
	content []byte
}

func (f file) ext() string { return path.Ext(f.name) }

var generatedLine = regexp.MustCompile(`(?m)^(//|/\*|#) ?Code generated .* DO NOT EDIT|controller-gen\.kubebuilder\.io/version:`)

// generated tells whether a tool wrote the file.
func (f file) generated() bool {
	return generatedLine.Match(f.content) || strings.HasPrefix(path.Base(f.name), "zz_generated")
}

func (f file) lines() int { return bytes.Count(f.content, []byte("\n")) }

// files reads every file of the repository that git knows or would take in.
func files(t *testing.T) []file {
	t.Helper()
	const root = "../.."
	cmd := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing files: %v", err)
	}
	var all []file
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSuffix(name, "\n")
		content, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, not yet committed
		}
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		all = append(all, file{name: name, content: content})
	}
	if len(all) == 0 {
		t.Fatal("the repository has no files")
	}
	return all
}

// goFile is a parsed Go file.
type goFile struct {
	file
	fset *token.FileSet
	tree *ast.File
}

func (f goFile) test() bool { return strings.HasSuffix(f.name, "_test.go") }

// dir is the package's folder, "." for the root.
func (f goFile) dir() string { return path.Dir(f.name) }

func (f goFile) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// goFiles parses the Go files of the product's module.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var all []goFile
	for _, f := range files(t) {
		if f.ext() != ".go" || strings.Contains(f.name, "testdata/") || strings.HasPrefix(f.name, "tools/") {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, f.name, f.content, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, goFile{file: f, fset: fset, tree: tree})
	}
	return all
}
