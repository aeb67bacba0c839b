// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Items are the items of a document that is a list in Kubernetes' form, each as a
// document of its own. Aliases are not followed: one item is there once.
func (d *Document) Items() ([]*Document, []Error) {
	dec := newDecoder()
	var items []*Document
	found := false
	dec.eachKey(d.root, "", func(key, val *yaml.Node, sub string) {
		switch key.Value {
		case "apiVersion", "kind":
		case "metadata":
			dec.plain(val, sub)
		case "items":
			items, found = dec.items(val, sub), true
		default:
			dec.fail(key, sub, "unknown field; remove it, or use one of: apiVersion, items, kind, metadata")
		}
	})
	if !found && len(dec.errs) == 0 {
		dec.fail(d.root, "items", "missing (an empty list is [])")
	}
	return items, dec.errs
}

func (d *decoder) items(n *yaml.Node, path string) (out []*Document) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, `want a list (items that begin with "- "), got %s`, describe(n))
		return nil
	}
	for i, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			d.fail(item, fmt.Sprintf("%s[%d]", path, i), "want an object (key: value), got %s", describe(item))
			continue
		}
		out = append(out, &Document{root: item})
	}
	return out
}
