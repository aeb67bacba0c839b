// SPDX-License-Identifier: Apache-2.0

// Package strictyaml decodes YAML and JSON into Go structs and says where each
// fault is. It accepts less than YAML allows, so that a slip of the pen never
// means something: unknown fields, duplicate keys, values of another type and
// keys without a value are faults, each with its line and field path.
//
// Field names are those of the `json` tags.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one fault in a document.
type Error struct {
	Line    int    // from 1; 0: unknown
	Field   string // path such as spec.ports[0].name; empty: the document itself
	Message string // what is wrong and what to do
}

// Error is line: field: message, without the parts that are unknown.
func (e Error) Error() string {
	parts := make([]string, 0, 3)
	if e.Line > 0 {
		parts = append(parts, strconv.Itoa(e.Line))
	}
	if e.Field != "" {
		parts = append(parts, e.Field)
	}
	return strings.Join(append(parts, e.Message), ": ")
}

// Document is one document of a file.
type Document struct {
	root *yaml.Node
}

// Parse splits a file into its documents; those that are empty are left out.
// A syntax error ends it, because what follows cannot be trusted.
func Parse(data []byte) ([]*Document, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs []*Document
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, syntaxError(err, 1+bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n")))
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || isNull(n.Content[0]) {
			continue
		}
		docs = append(docs, &Document{root: n.Content[0]})
	}
}

// ParseJSON is Parse for a file in JSON. YAML includes JSON but for tabs
// between tokens; inside JSON strings a tab cannot stand unescaped.
func ParseJSON(data []byte) ([]*Document, error) {
	return Parse(bytes.ReplaceAll(data, []byte("\t"), []byte(" ")))
}

var syntaxLine = regexp.MustCompile(`^line (\d+): (.*)$`)

// syntaxError takes the line out of the parser's message. For a document that
// ends too early that is the line after the last.
func syntaxError(err error, lines int) Error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(msg); m != nil {
		line, convErr := strconv.Atoi(m[1])
		if convErr == nil {
			return Error{Line: min(line, lines), Message: syntaxMessage(m[2])}
		}
	}
	return Error{Message: syntaxMessage(msg)}
}

// syntaxMessage adds what to look at. What the parser misses it reports where the
// object or list begins in which it misses it; only the scanner knows the line.
func syntaxMessage(msg string) string {
	remedy := "check indentation and quotes on this line and the one before"
	switch {
	case strings.HasPrefix(msg, "did not find expected"):
		remedy = "check indentation, quotes and brackets from this line on"
	case msg == "found character that cannot start any token":
		remedy = "indent with spaces, not tabs, and quote a text that begins with @, ` or %"
	}
	return fmt.Sprintf("not valid YAML: %s; %s", msg, remedy)
}

// Line is the line on which the document begins.
func (d *Document) Line() int { return d.root.Line }

// String is the text of the string field at a path, or "".
func (d *Document) String(path string) string {
	n := d.root
	for _, step := range split(path) {
		if _, n = child(n, step); n == nil {
			return ""
		}
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		return n.Value
	}
	return ""
}

// Decode fills the struct that into points to. Whatever is wrong is in the
// list, in the order of the file; then what into holds is of no use.
func (d *Document) Decode(into any) []Error {
	dec := newDecoder()
	dec.value(d.root, valueOf(into), "")
	return dec.errs
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
