// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/cli/render"
)

// merging says how the same thing, told by several nodes, becomes one.
type merging[T proto.Message] struct {
	own  func(T)          // takes out of a copy what is each node's own
	add  func(sum, one T) // adds another node's to the first
	less func(x, y T) int // the order in which they are shown
}

// merge makes one item of those that nodes tell alike, with the cell that names the
// nodes. The items of a single agent stay as they are.
func merge[M any, T proto.Message](answers []answer[M], items func(M) []T, how merging[T]) (all []T, nodes []string) {
	if len(answers) == 1 {
		all = items(answers[0].message)
		for range all {
			nodes = append(nodes, answers[0].agent.Node)
		}
		return all, nodes
	}
	type shared struct {
		item  T
		nodes []string
	}
	var order []*shared
	known := make(map[string]*shared)
	for _, one := range answers {
		for _, item := range items(one.message) {
			key := likeness(item, how.own)
			s := known[key]
			if s == nil {
				s = &shared{item: proto.Clone(item).(T)}
				known[key] = s
				order = append(order, s)
			} else {
				how.add(s.item, item)
			}
			s.nodes = append(s.nodes, one.agent.Node)
		}
	}
	slices.SortStableFunc(order, func(x, y *shared) int { return how.less(x.item, y.item) })
	for _, s := range order {
		all = append(all, s.item)
		nodes = append(nodes, render.Nodes(s.nodes, len(answers)))
	}
	return all, nodes
}

// likeness is the same for what nodes tell alike.
func likeness[T proto.Message](item T, own func(T)) string {
	plain := proto.Clone(item).(T)
	own(plain)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(plain)
	if err != nil {
		panic(err) // it was just received: it can be written
	}
	return string(raw)
}

// nodeCells are the cells of a column of nodes, if there is to be one.
func nodeCells(nodes []string, named bool) []string {
	if !named {
		return nil
	}
	return nodes
}
