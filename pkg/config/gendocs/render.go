// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/weftmesh/weft/pkg/config"
)

const intro = `# Configuration

<!-- Generated from pkg/config/config.go and daemonset/chart/values.yaml by "go generate ./pkg/config". Do not edit. -->

The agent reads ` + "`/etc/weft/config.yaml`" + ` (` + "`weft-agent --config FILE`" + ` names another one). Everything has a
default; without a file the agent runs with the defaults. The file is read strictly: an unknown field, a value of another
type or one out of bounds keeps the agent from starting, with a message that names the line, the field and what to do:

    /etc/weft/config.yaml:3: podCIDR: unknown field; did you mean "podCIDRs"?

A field with a mark under *live* changes without a restart when the agent gets the signal HUP
(` + "`systemctl reload weft-agent`" + `). The agent names the other fields that changed; they wait for a restart. A file with
a fault changes nothing.

In a cluster weft-operator reads the same file, of which it uses ` + "`clusterName`, `clusterCIDRs`, `identityLabels`, `logLevel`, `kubernetes` and `operator`" + `.
Agents and operator must have the same ` + "`clusterName` and `identityLabels`" + `: both make the labels of identities by them.

Times are written with their unit: ` + "`30s`, `5m`, `2h`" + `. In patterns of label keys ` + "`*`" + ` stands for any text.

| field | default | live | meaning |
|---|---|---|---|
`

// render makes the reference from the file that declares the types.
func render(source string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return "", fmt.Errorf("parsing the types: %w", err)
	}
	r := renderer{docs: fieldDocs(file)}
	r.rows(reflect.ValueOf(config.Default("")), "")
	if r.err != nil {
		return "", r.err
	}
	return intro + r.out.String(), nil
}

type renderer struct {
	docs map[string]string // Type.Field → comment
	out  strings.Builder
	err  error
}

func (r *renderer) rows(v reflect.Value, prefix string) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name := prefix + strings.Split(f.Tag.Get("json"), ",")[0]
		doc := r.docs[t.Name()+"."+f.Name]
		if doc == "" {
			r.err = fmt.Errorf("field %s.%s has no comment", t.Name(), f.Name)
			return
		}
		if f.Type.Kind() == reflect.Struct {
			fmt.Fprintf(&r.out, "| `%s` | | | %s |\n", name, doc)
			r.rows(v.Field(i), name+".")
			continue
		}
		live := ""
		if f.Tag.Get("reload") != "" {
			live = "yes"
		}
		fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s |\n", name, r.defaultOf(f, v.Field(i)), live, doc)
	}
}

// defaultOf is the default as the file would spell it, or the words of the tag.
func (r *renderer) defaultOf(f reflect.StructField, v reflect.Value) string {
	if words := f.Tag.Get("default"); words != "" {
		return words
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = "`" + r.plain(v.Index(i)) + "`"
		}
		if len(items) == 0 {
			return "none"
		}
		return strings.Join(items, "<br>")
	}
	return "`" + r.plain(v) + "`"
}

func (r *renderer) plain(v reflect.Value) string {
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		r.err = fmt.Errorf("encoding a default: %w", err)
	}
	return strings.Trim(string(raw), `"`)
}

// fieldDocs gathers the comments of the fields of all structs in a file.
func fieldDocs(file *ast.File) map[string]string {
	docs := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return false
	})
	return docs
}
