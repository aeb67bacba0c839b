// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

const (
	docFile  = "../../../docs/POLICY.md"
	docBegin = "<!-- Written from the Go types by \"WEFT_UPDATE=1 go test ./pkg/api/v1alpha1\": begin -->\n"
	docEnd   = "<!-- end -->"
)

// The table of fields in docs/POLICY.md is that of the types: what is refused,
// and every field that is not.
func TestDocumentedFieldsAreThoseOfTheTypes(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), docBegin)
	_, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", docFile)
	}
	w := fieldWriter{docs: fieldDocs(t), remedies: v1alpha1.Remedies()}
	w.table(reflect.TypeFor[v1alpha1.PolicySpec](), "")
	want := head + docBegin + "\n| field | | meaning |\n|---|---|---|\n" + w.b.String() + "\n" + docEnd + tail
	if os.Getenv("WEFT_UPDATE") != "" {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("the table of fields in %s is old: WEFT_UPDATE=1 go test ./pkg/api/v1alpha1", docFile)
	}
	for field := range w.remedies {
		if !w.refused[field] {
			t.Errorf("%s is refused and not in the table", field)
		}
	}
}

type fieldWriter struct {
	b        strings.Builder
	docs     map[string]string // by Type.Field
	remedies map[string]string
	refused  map[string]bool
}

func (w *fieldWriter) table(t reflect.Type, prefix string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" { // embedded
			w.table(f.Type, prefix)
			continue
		}
		doc := w.docs[t.Name()+"."+f.Name]
		if remedy, no := w.remedies[name]; no {
			if w.refused == nil {
				w.refused = make(map[string]bool)
			}
			w.refused[name] = true
			doc = strings.TrimSuffix(doc, " Not supported yet.") + " Instead: " + remedy + "."
			w.row(prefix+name, "refused", doc)
			continue
		}
		at := f.Type
		for at.Kind() == reflect.Slice || at.Kind() == reflect.Pointer {
			at = at.Elem()
		}
		list := ""
		if f.Type.Kind() == reflect.Slice {
			list = "[]"
		}
		w.row(prefix+name, "supported", doc)
		if at.Kind() == reflect.Struct && at.PkgPath() == reflect.TypeFor[v1alpha1.PolicySpec]().PkgPath() {
			w.table(at, prefix+name+list+".")
		}
	}
}

// row leaves out the fields of deny rules that are as those of allow rules.
func (w *fieldWriter) row(path, state, doc string) {
	text := fmt.Sprintf("| `%s` | %s | %s |\n", path, state, doc)
	if twin := strings.Replace(text, "Deny[]", "[]", 1); twin == text || !strings.Contains(w.b.String(), twin) {
		w.b.WriteString(text)
	}
}

// Every example is a policy.
func TestDocumentedExamplesAreTaken(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")
	if len(blocks) < 2 {
		t.Fatal("there is no example")
	}
	for _, b := range blocks[1:] {
		text, _, _ := strings.Cut(b, "```")
		if _, err := decode(t, text); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

// fieldDocs are the comments of all fields, without markers.
func fieldDocs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*_types.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("types: %v %v", files, err)
	}
	out := make(map[string]string)
	for _, name := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, id := range f.Names {
						out[spec.Name.Name+"."+id.Name] = plain(f.Doc.Text())
					}
				}
			}
			return false
		})
	}
	return out
}

func plain(doc string) string {
	var out []string
	for _, line := range strings.Split(doc, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "+") {
			out = append(out, line)
		}
	}
	return strings.Join(out, " ")
}
