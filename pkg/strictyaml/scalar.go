// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"math"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// isText tells whether a scalar is a text. What looks like a date is one:
// JSON, whose types these are, has no dates.
func isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp")
}

func isTag(n *yaml.Node, tag string) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == tag }

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if !isText(n) {
			d.fail(n, path, "want a text, got %s%s", describe(n), quoteRemedy(n))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if !isTag(n, "!!bool") || n.Decode(&b) != nil {
			d.fail(n, path, "want true or false, got %s", describe(n))
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var i int64
		if !isTag(n, "!!int") || n.Decode(&i) != nil || v.OverflowInt(i) {
			d.fail(n, path, "want a whole number%s, got %s", rangeOf(v), describe(n))
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var u uint64
		if !isTag(n, "!!int") || n.Decode(&u) != nil || v.OverflowUint(u) {
			d.fail(n, path, "want a whole number%s, got %s", rangeOf(v), describe(n))
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		var f float64
		if (!isTag(n, "!!float") && !isTag(n, "!!int")) || n.Decode(&f) != nil || math.IsNaN(f) {
			d.fail(n, path, "want a number, got %s", describe(n))
			return
		}
		v.SetFloat(f)
	default:
		d.fail(n, path, "a field of type %s cannot be set from a file", v.Type())
	}
}

func (d *decoder) plainScalar(n *yaml.Node, path string) any {
	if isText(n) {
		return n.Value
	}
	var out any
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!int", "!!float", "!!bool":
		if n.Decode(&out) == nil && !notFinite(out) {
			return out
		}
	}
	d.fail(n, path, "want a value that JSON has, got %s", describe(n))
	return nil
}

func notFinite(v any) bool {
	f, ok := v.(float64)
	return ok && (math.IsNaN(f) || math.IsInf(f, 0))
}

func rangeOf(v reflect.Value) string {
	bits := v.Type().Bits()
	switch {
	case bits >= 64 && v.CanUint():
		return " that is not negative"
	case bits >= 64:
		return ""
	case v.CanUint():
		return " from 0 to " + strconv.FormatUint(1<<bits-1, 10)
	}
	return " from " + strconv.FormatInt(-1<<(bits-1), 10) + " to " + strconv.FormatInt(1<<(bits-1)-1, 10)
}

// describe names a node's value in words for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str", "!!timestamp":
		return "the text " + strconv.Quote(shorten(n.Value))
	case "!!int", "!!float":
		return "the number " + shorten(n.Value)
	case "!!bool":
		return shorten(n.Value)
	}
	return "a value with the tag " + strconv.Quote(shorten(n.ShortTag()))
}

func quoteRemedy(n *yaml.Node) string {
	if isTag(n, "!!int") || isTag(n, "!!float") || isTag(n, "!!bool") {
		return "; put it in quotes: " + strconv.Quote(shorten(n.Value))
	}
	return ""
}

// shorten keeps messages on one line of bearable length.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
