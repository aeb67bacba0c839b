// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// OfNode is what the agent of a node answered, or why it did not.
type OfNode struct {
	Node    string
	Message proto.Message // nil: it did not answer
	Err     error
}

// NodesJSON writes the answers of several nodes as one object: what holds for the
// cluster (may be nil) and, in "nodes", each answer's fields beside its node.
func NodesJSON(w io.Writer, cluster any, answers []OfNode) error {
	whole := struct {
		Cluster any               `json:"cluster,omitempty"`
		Nodes   []json.RawMessage `json:"nodes"`
	}{Cluster: cluster, Nodes: []json.RawMessage{}}
	for _, a := range answers {
		one, err := nodeJSON(a)
		if err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		whole.Nodes = append(whole.Nodes, one)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(whole)
}

func nodeJSON(a OfNode) (json.RawMessage, error) {
	about := struct {
		Node  string `json:"node"`
		Error string `json:"error,omitempty"`
	}{Node: a.Node}
	if a.Err != nil {
		about.Error = a.Err.Error()
	}
	head, err := json.Marshal(about)
	if err != nil || a.Message == nil {
		return head, err
	}
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(a.Message)
	if err != nil {
		return nil, err
	}
	if a.Message.ProtoReflect().Descriptor().Fields().ByName("node") != nil {
		return raw, nil // it names its node itself
	}
	fields := bytes.TrimPrefix(bytes.TrimSpace(raw), []byte("{"))
	if string(bytes.TrimSpace(fields)) == "}" {
		return head, nil
	}
	return append(append(bytes.TrimSuffix(head, []byte("}")), ','), fields...), nil
}

// shownNodes is how many nodes a cell names.
const shownNodes = 3

// Nodes is the cell about the nodes that know a thing, of so many that were asked.
func Nodes(nodes []string, asked int) string {
	switch {
	case len(nodes) == asked && asked > 1:
		return "all"
	case len(nodes) > shownNodes:
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:shownNodes], ","), len(nodes)-shownNodes)
	}
	return strings.Join(nodes, ",")
}

// nodeTable is Table with a first column of nodes, unless that is nil.
func nodeTable(w io.Writer, header []string, rows [][]string, nodes []string) error {
	if nodes == nil {
		return Table(w, header, rows)
	}
	for i := range rows {
		rows[i] = append([]string{nodes[i]}, rows[i]...)
	}
	return Table(w, append([]string{"NODE"}, header...), rows)
}
