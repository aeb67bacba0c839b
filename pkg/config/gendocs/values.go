// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const valuesIntro = `
## Values of the Helm chart

In Kubernetes the chart (` + "`daemonset/chart`" + `) writes the configuration of agents and operators, from these values.
` + "`helm install`" + ` and ` + "`helm upgrade`" + ` refuse a value that is not here, or that cannot be. An upgrade that changes what
agents read replaces them, a share of the nodes at a time; one that does not leaves them alone.

| value | default | meaning |
|---|---|---|
`

// renderValues makes the table of the chart's values from the comments in the file
// that has their defaults.
func renderValues(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the values: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return "", fmt.Errorf("reading the values from %s: %w", path, err)
	}
	var out strings.Builder
	if err := valueRows(&out, doc.Content[0], ""); err != nil {
		return "", err
	}
	return valuesIntro + out.String(), nil
}

// valueRows writes a row for each key that has a comment, and looks for others
// within those that have none.
func valueRows(out *strings.Builder, m *yaml.Node, prefix string) error {
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, v := m.Content[i], m.Content[i+1]
		name := prefix + key.Value
		switch {
		case key.HeadComment != "":
			doc := strings.Join(strings.Fields(strings.ReplaceAll("\n"+key.HeadComment, "\n#", " ")), " ")
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", name, valueDefault(v), doc)
		case v.Kind == yaml.MappingNode:
			if err := valueRows(out, v, name+"."); err != nil {
				return err
			}
		default:
			return fmt.Errorf("value %s has no comment (line %d)", name, key.Line)
		}
	}
	return nil
}

func valueDefault(v *yaml.Node) string {
	var parts []string
	switch {
	case v.Kind == yaml.ScalarNode && v.Value == "", v.Kind != yaml.ScalarNode && len(v.Content) == 0:
		return "none"
	case v.Kind == yaml.ScalarNode:
		return "`" + v.Value + "`"
	case v.Kind == yaml.SequenceNode:
		for _, x := range v.Content {
			parts = append(parts, valueDefault(x))
		}
	default:
		for i := 0; i+1 < len(v.Content); i += 2 {
			for _, inner := range strings.Split(valueDefault(v.Content[i+1]), "<br>") {
				key := "`" + v.Content[i].Value
				if strings.Contains(inner, ": ") {
					parts = append(parts, key+"."+inner[1:])
				} else {
					parts = append(parts, key+": "+inner[1:])
				}
			}
		}
	}
	return strings.Join(parts, "<br>")
}
