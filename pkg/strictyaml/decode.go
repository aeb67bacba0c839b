// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds against documents made to exhaust memory by aliases of aliases.
const (
	maxNodes = 1 << 17
	maxDepth = 64
)

// decoder walks nodes and a Go value side by side.
type decoder struct {
	errs    []Error
	nodes   int
	depth   int
	stopped bool // a bound was met
	fields  map[reflect.Type]map[string][]int
}

func newDecoder() *decoder {
	return &decoder{fields: make(map[reflect.Type]map[string][]int)}
}

func valueOf(into any) reflect.Value { return reflect.ValueOf(into).Elem() }

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, Error{Line: n.Line, Field: path, Message: fmt.Sprintf(format, args...)})
}

// enter follows aliases and keeps the bounds; nil means that the walk stops.
func (d *decoder) enter(n *yaml.Node, path string) *yaml.Node {
	if d.stopped {
		return nil
	}
	if d.nodes++; d.nodes == maxNodes || d.depth == maxDepth {
		d.fail(n, path, "the document is too large or too deep; split it, and write aliases out")
		d.stopped = true
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (d *decoder) value(at *yaml.Node, v reflect.Value, path string) {
	n := d.enter(at, path)
	if n == nil {
		return
	}
	d.depth++
	defer func() { d.depth-- }()

	if isNull(n) && v.Kind() == reflect.Struct && strings.HasSuffix(path, ".creationTimestamp") {
		return // printed so by every tool that prints manifests
	}
	if isNull(n) && v.Kind() != reflect.Interface {
		d.fail(at, path, "has no value; give it one or remove the field%s", nullRemedy(v.Kind()))
		return
	}
	if v.CanAddr() {
		switch u := v.Addr().Interface().(type) {
		case json.Unmarshaler:
			d.custom(n, u, path)
			return
		case encoding.TextUnmarshaler:
			d.text(n, u, path)
			return
		}
	}
	d.kind(n, v, path)
}

func (d *decoder) kind(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Interface:
		if plain := d.plain(n, path); plain != nil {
			v.Set(reflect.ValueOf(plain))
		}
	default:
		d.scalar(n, v, path)
	}
}

// nullRemedy ends the message for a key without a value.
func nullRemedy(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return ` (an empty text is "")`
	case reflect.Slice:
		return " (an empty list is [])"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return " (an empty object is {})"
	}
	return ""
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	known := d.fieldsOf(v.Type())
	d.eachKey(n, path, func(key, val *yaml.Node, sub string) {
		index, ok := known[key.Value]
		if !ok {
			d.fail(key, sub, "%s", unknownField(key.Value, known))
			return
		}
		d.value(val, v.FieldByIndex(index), sub)
	})
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	out := reflect.MakeMap(v.Type())
	d.eachKey(n, path, func(key, val *yaml.Node, sub string) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(val, elem, sub)
		out.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), elem)
	})
	v.Set(out)
}

// eachKey visits the keys of a mapping in the order of the file, once each.
func (d *decoder) eachKey(n *yaml.Node, path string, visit func(key, val *yaml.Node, sub string)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "want an object (key: value), got %s", describe(n))
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Tag == "!!merge" {
			d.fail(key, path, "merge keys (<<) are not supported; write the fields out")
			continue
		}
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			d.fail(key, path, "a key must be a text, got %s; put it in quotes", describe(key))
			continue
		}
		sub := join(path, key.Value)
		if line, dup := seen[key.Value]; dup {
			d.fail(key, sub, "duplicate key, first given on line %d; remove one of the two", line)
			continue
		}
		seen[key.Value] = key.Line
		visit(key, val, sub)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		d.bytes(n, v, path)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, `want a list (items that begin with "- "), got %s`, describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (d *decoder) bytes(n *yaml.Node, v reflect.Value, path string) {
	raw, err := base64.StdEncoding.DecodeString(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(n, path, "want a text in base64, got %s", describe(n))
		return
	}
	v.SetBytes(raw)
}

// custom hands a value to a type that decodes itself from JSON.
func (d *decoder) custom(n *yaml.Node, u json.Unmarshaler, path string) {
	before := len(d.errs)
	plain := d.plain(n, path)
	if len(d.errs) > before {
		return
	}
	raw, err := json.Marshal(plain)
	if err == nil {
		err = u.UnmarshalJSON(raw)
	}
	if err != nil {
		d.fail(n, path, "not a valid value: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
}

// text hands a scalar to a type that decodes itself from text.
func (d *decoder) text(n *yaml.Node, u encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "want a text, got %s", describe(n))
		return
	}
	err := u.UnmarshalText([]byte(n.Value))
	if err == nil {
		return
	}
	switch u.(type) {
	case *netip.Prefix:
		d.fail(n, path, "want an address range such as 10.0.0.0/8 or fd00::/64, got %s", describe(n))
	case *netip.Addr:
		d.fail(n, path, "want an IPv4 or IPv6 address, got %s", describe(n))
	default:
		d.fail(n, path, "not a valid value %s: %v", strconv.Quote(shorten(n.Value)), err)
	}
}

// plain is the value as encoding/json would hold it.
func (d *decoder) plain(at *yaml.Node, path string) any {
	n := d.enter(at, path)
	if n == nil {
		return nil
	}
	d.depth++
	defer func() { d.depth-- }()

	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any)
		d.eachKey(n, path, func(key, val *yaml.Node, sub string) { out[key.Value] = d.plain(val, sub) })
		return out
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, item := range n.Content {
			out[i] = d.plain(item, fmt.Sprintf("%s[%d]", path, i))
		}
		return out
	}
	return d.plainScalar(n, path)
}
