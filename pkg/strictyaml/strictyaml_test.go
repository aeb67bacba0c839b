// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

type inner struct {
	Name  string            `json:"name"`
	Port  uint16            `json:"port,omitempty"`
	Label map[string]string `json:"labels,omitempty"`
}

type Meta struct {
	Kind string `json:"kind,omitempty"`
}

type outer struct {
	Meta    `json:",inline"`
	Items   []inner        `json:"items"`
	On      *bool          `json:"on"`
	Ratio   float64        `json:"ratio"`
	Prefix  netip.Prefix   `json:"prefix"`
	Any     map[string]any `json:"any"`
	Raw     []byte         `json:"raw"`
	Hidden  string         `json:"-"`
	Counter int            `json:"counter"`
}

func decodeOne(t *testing.T, text string) (outer, []string) {
	t.Helper()
	docs, err := Parse([]byte(text))
	if err != nil {
		return outer{}, []string{err.Error()}
	}
	var out outer
	var msgs []string
	for _, d := range docs {
		for _, e := range d.Decode(&out) {
			msgs = append(msgs, e.Error())
		}
	}
	return out, msgs
}

func TestDecodeFillsEveryKindOfField(t *testing.T) {
	got, errs := decodeOne(t, `
kind: Thing
items:
- &first {name: a, port: 80, labels: {x: "1", y: 2001-01-01}}
- *first
on: false
ratio: 3
prefix: 10.0.0.0/8
any: {n: 1, l: [true, null], s: text}
raw: aGk=
counter: -7
`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	off := false
	item := inner{Name: "a", Port: 80, Label: map[string]string{"x": "1", "y": "2001-01-01"}}
	want := outer{
		Meta: Meta{Kind: "Thing"}, Items: []inner{item, item}, On: &off, Ratio: 3,
		Prefix: netip.MustParsePrefix("10.0.0.0/8"), Raw: []byte("hi"), Counter: -7,
		Any: map[string]any{"n": 1, "l": []any{true, nil}, "s": "text"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestFaultsNamePlaceAndRemedy(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"misspelt", "items:\n- nmae: a\n", `2: items[0].nmae: unknown field; did you mean "name"?`},
		{"case", "Items: []\n", `1: Items: unknown field; did you mean "items"?`},
		{"unknown", "items:\n- zzzzzz: a\n", `2: items[0].zzzzzz: unknown field; remove it, or use one of: labels, name, port`},
		{"hidden", "Hidden: x\n", `1: Hidden: unknown field; remove it, or use one of: any, counter, items, kind, on, prefix, ratio, raw`},
		{"number for text", "items:\n- name: 12\n", `2: items[0].name: want a text, got the number 12; put it in quotes: "12"`},
		{"bool for text", "items:\n- labels: {a: true}\n", `2: items[0].labels.a: want a text, got true; put it in quotes: "true"`},
		{"dotted key", "items:\n- labels:\n    a.b/c: 1\n", `3: items[0].labels["a.b/c"]: want a text, got the number 1; put it in quotes: "1"`},
		{"range", "items:\n- port: 70000\n", `2: items[0].port: want a whole number from 0 to 65535, got the number 70000`},
		{"fraction", "counter: 1.5\n", `1: counter: want a whole number, got the number 1.5`},
		{"text for list", "items: a\n", `1: items: want a list (items that begin with "- "), got the text "a"`},
		{"list for object", "items:\n- [1]\n", `2: items[0]: want an object (key: value), got a list`},
		{"null list", "kind: x\nitems:\n", `2: items: has no value; give it one or remove the field (an empty list is [])`},
		{"null item", "items:\n-\n", `2: items[0]: has no value; give it one or remove the field (an empty object is {})`},
		{"duplicate", "kind: a\non: true\nkind: b\n", `3: kind: duplicate key, first given on line 1; remove one of the two`},
		{"text type", "prefix: 10.0.0.0\n", `1: prefix: want an address range such as 10.0.0.0/8 or fd00::/64, got the text "10.0.0.0"`},
		{"merge", "items:\n- &a {name: x}\n- {<<: *a}\n", `3: items[1]: merge keys (<<) are not supported; write the fields out`},
		{"tag", "kind: !secret x\n", `1: kind: want a text, got a value with the tag "!secret"`},
		{"second document", "kind: a\n---\nknid: b\n", `3: knid: unknown field; did you mean "kind"?`},
		{"syntax", "kind: a\n  items: b\n", `2: not valid YAML: mapping values are not allowed in this context; check indentation and quotes on this line and the one before`},
		{"tab", "any:\n  a: [b]\n\tc: d\n", `3: not valid YAML: found character that cannot start any token; indent with spaces, not tabs, and quote a text that begins with @, ` + "` or %"},
		{"one less deep", "items:\n- name: b\n  kind: d\n kind: a\n", `3: not valid YAML: did not find expected key; check indentation, quotes and brackets from this line on`},
		{"self alias", "any: &a {b: *a}\n", `1: any.b` + strings.Repeat(".b", 1) + `: `},
		{"scalar document", "hello\n", `1: want an object (key: value), got the text "hello"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := decodeOne(t, c.in)
			got := strings.Join(errs, "\n")
			if c.name == "self alias" {
				if len(errs) != 1 || !strings.Contains(got, "too large or too deep") {
					t.Errorf("got %s", got)
				}
				return
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAliasBombIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("any:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		prev, cur := string(rune('0'+i-1)), string(rune('0'+i))
		b.WriteString("  a" + cur + ": &a" + cur + " [" + strings.Repeat("*a"+prev+", ", 9) + "*a" + prev + "]\n")
	}
	_, errs := decodeOne(t, b.String())
	if len(errs) != 1 || !strings.Contains(errs[0], "too large or too deep") {
		t.Errorf("got %d errors: %.200v", len(errs), errs)
	}
}

func TestJSONWithTabs(t *testing.T) {
	docs, err := ParseJSON([]byte("{\n\t\"kind\":\t\"a\\tb\"\n}"))
	if err != nil || len(docs) != 1 || docs[0].String("kind") != "a\tb" {
		t.Errorf("got %v, %v", docs, err)
	}
}

func TestLineOf(t *testing.T) {
	docs, err := Parse([]byte("a: 1\nb:\n  c:\n  - d: 1\n  - d: 2\n    e.f/g: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"": 1, "b": 2, "b.c": 3, "b.c[1]": 5, "b.c[1].d": 5, "b.c[1][e.f/g]": 6,
		`b.c[1]["e.f/g"]`: 6, "b.c[7].d": 3, "b.x.y": 2,
	} {
		if got := docs[0].LineOf(path); got != want {
			t.Errorf("LineOf(%q) = %d, want %d", path, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("kind: x\nitems: [{name: a}]\n")
	f.Add("any: &a {b: *a}\n")
	f.Add("items:\n- <<: {}\n  ? [a]\n  : b\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, d := range docs {
			var out outer
			for _, e := range d.Decode(&out) {
				if e.Message == "" || e.Line < 0 {
					t.Errorf("poor error %+v", e)
				}
			}
		}
	})
}
