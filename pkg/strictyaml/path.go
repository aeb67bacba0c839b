// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// join adds a key to a path; keys that hold dots or brackets stand in brackets.
func join(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[]/ \"") {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// LineOf is the line of the field at a path, or of the nearest field above it
// that the document has. Keys in brackets may be quoted or bare, as in
// metadata.labels[app.kubernetes.io/name].
func (d *Document) LineOf(path string) int {
	n, line := d.root, d.root.Line
	for _, step := range split(path) {
		key, val := child(n, step)
		if val == nil {
			break
		}
		n, line = val, key.Line
	}
	return line
}

// child finds a mapping's value with its key, or a list's item by number (the
// item is then its own key).
func child(n *yaml.Node, step string) (key, val *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}

// split takes a path apart into keys and item numbers.
func split(path string) []string {
	var steps []string
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			var step string
			step, path = bracket(path)
			steps = append(steps, step)
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			steps = append(steps, path[:end])
			path = path[end:]
		}
	}
	return steps
}

// bracket takes the step in brackets off the front of a path.
func bracket(path string) (step, rest string) {
	if quoted, err := strconv.QuotedPrefix(path[1:]); err == nil {
		if text, err := strconv.Unquote(quoted); err == nil {
			return text, strings.TrimPrefix(path[1+len(quoted):], "]")
		}
	}
	step, rest, _ = strings.Cut(path[1:], "]")
	return step, rest
}
