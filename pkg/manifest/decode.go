// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/strictyaml"
)

// Key names an object. Kinds of this folder are unique without their group.
type Key struct {
	Kind      string
	Namespace string // empty for cluster-wide kinds
	Name      string
}

// String is Kind namespace/name.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Object is one decoded object.
type Object struct {
	Key   Key
	Line  int // of its name
	Value any // model.Pod, Namespace, Service, EndpointSlice or []Policy
}

// Decode reads a manifest file; name tells YAML from JSON and is the Source of
// its objects. The objects are of use only if there is no problem.
func Decode(name string, data []byte) ([]Object, []Problem) {
	parse := strictyaml.Parse
	if filepath.Ext(name) == ".json" {
		parse = strictyaml.ParseJSON
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, []Problem{{File: name, Message: "the file is empty, as if half-written; " +
			"delete it to remove what it held, or leave a comment in it"}}
	}
	docs, err := parse(data)
	if err != nil {
		return nil, problems(name, Key{}, []strictyaml.Error{asError(err)})
	}
	docs, errs := writeOut(docs)
	faults := problems(name, Key{}, errs)
	var objects []Object
	lines := make(map[Key]int, len(docs))
	for _, doc := range docs {
		o, e := decodeDocument(name, doc)
		if first, dup := lines[o.Key]; dup && len(e) == 0 {
			e = []strictyaml.Error{{Line: o.Line, Field: "metadata.name", Message: fmt.Sprintf(
				"%s is already on line %d; rename or remove one of the two", o.Key, first)}}
		}
		if len(e) > 0 {
			faults = append(faults, problems(name, nameOf(doc), e)...)
			continue
		}
		lines[o.Key] = o.Line
		objects = append(objects, o)
	}
	return objects, faults
}

// nameOf is the key that a document with a fault says it has.
func nameOf(doc *strictyaml.Document) Key {
	k := Key{Kind: doc.String("kind"), Namespace: doc.String("metadata.namespace"), Name: doc.String("metadata.name")}
	if k.Namespace == "" && k.Kind != "Namespace" && k.Kind != v1alpha1.KindClusterNetworkPolicy {
		k.Namespace = convert.DefaultNamespace
	}
	return k
}

// writeOut puts the items of each v1 List in its place.
func writeOut(docs []*strictyaml.Document) (out []*strictyaml.Document, errs []strictyaml.Error) {
	for _, doc := range docs {
		if doc.String("kind") != "List" || doc.String("apiVersion") != "v1" {
			out = append(out, doc)
			continue
		}
		items, e := doc.Items()
		out, errs = append(out, items...), append(errs, e...)
	}
	return out, errs
}

func decodeDocument(file string, doc *strictyaml.Document) (Object, []strictyaml.Error) {
	k, fault := kindOf(doc)
	if fault != nil {
		return Object{}, []strictyaml.Error{*fault}
	}
	o, errs := k.decode(doc, file)
	o.Key.Kind = k.name
	o.Line = doc.LineOf("metadata.name")
	return o, errs
}

// kindOf finds the kind of a document, or tells why it has none.
func kindOf(doc *strictyaml.Document) (kind, *strictyaml.Error) {
	version, name := doc.String("apiVersion"), doc.String("kind")
	fault := func(at, format string, args ...any) (kind, *strictyaml.Error) {
		return kind{}, &strictyaml.Error{Line: doc.LineOf(at), Field: at, Message: fmt.Sprintf(format, args...)}
	}
	known := kinds()
	names := make([]string, len(known))
	for i, k := range known {
		if k.name == name && k.version == version {
			return k, nil
		}
		if k.name == name {
			return fault("apiVersion", "want %q for kind %s, got %q", k.version, name, version)
		}
		names[i] = k.name
	}
	switch name {
	case "":
		return fault("kind", "missing; write apiVersion and kind, as in \"apiVersion: v1\" and \"kind: Pod\"")
	case "List":
		if version != "v1" {
			return fault("apiVersion", "want \"v1\" for kind List, got %q", version)
		}
		return fault("kind", "a list in a list is not read; write its items into the outer one")
	case "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy":
		return fault("kind", "%s is not read; change apiVersion to weftmesh.io/v1alpha1 and kind to %s",
			name, ciliumKinds()[name])
	}
	if best := strictyaml.Nearest(name, names); best != "" {
		return fault("kind", "unknown kind %q; did you mean %q?", name, best)
	}
	return fault("kind", "unknown kind %q; this folder holds %s", name, strings.Join(names, ", "))
}

func ciliumKinds() map[string]string {
	return map[string]string{
		"CiliumNetworkPolicy":            "WeftNetworkPolicy",
		"CiliumClusterwideNetworkPolicy": "WeftClusterNetworkPolicy",
	}
}

func asError(err error) strictyaml.Error {
	var e strictyaml.Error
	if errors.As(err, &e) {
		return e
	}
	return strictyaml.Error{Message: err.Error()}
}

func problems(file string, object Key, errs []strictyaml.Error) []Problem {
	var out []Problem
	for _, e := range errs {
		out = append(out, Problem{File: file, Line: e.Line, Field: e.Field, Message: e.Message, Object: object})
	}
	return out
}

// place gives the faults that a converter found their lines.
func place(doc *strictyaml.Document, errs field.ErrorList) []strictyaml.Error {
	var out []strictyaml.Error
	for _, e := range errs {
		out = append(out, strictyaml.Error{Line: doc.LineOf(e.Field), Field: e.Field, Message: convert.Message(e)})
	}
	slices.SortStableFunc(out, func(a, b strictyaml.Error) int { return cmp.Compare(a.Line, b.Line) })
	return out
}
