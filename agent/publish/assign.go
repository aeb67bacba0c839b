// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
)

// parts are a node's slices by name.
type parts = map[string][]model.NodeEndpoint

// room is what a slice has room for.
type room struct {
	endpoints int
	bytes     int // of endpoints as they are written
}

// assign says what the slices should be: a pod stays in its slice, a new one goes
// into the first that has room, so that one change concerns one slice. What does not
// fit anywhere is alone in its slice. A slice that nothing is left of is not in the
// outcome.
func assign(node string, now parts, pods []model.NodeEndpoint, most room) parts {
	left := make(map[model.PodKey]model.NodeEndpoint, len(pods))
	for _, p := range pods {
		left[p.Pod] = p
	}
	out := make(parts)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		for _, had := range now[name] {
			p, ok := left[had.Pod]
			if !ok || len(out[name]) == most.endpoints {
				continue
			}
			delete(left, had.Pod)
			out[name] = append(out[name], p)
		}
	}
	names := slices.Sorted(maps.Keys(out))
	used := make(map[string]int, len(names))
	for name, eps := range out {
		for _, e := range eps {
			used[name] += k8s.EndpointBytes(e)
		}
	}
	for _, p := range slices.SortedFunc(maps.Values(left), comparePods) {
		name, bytes := "", k8s.EndpointBytes(p)
		for _, n := range names {
			if len(out[n]) < most.endpoints && used[n]+bytes <= most.bytes {
				name = n
				break
			}
		}
		if name == "" {
			name = freeName(node, now, out)
			names = append(names, name)
		}
		out[name] = append(out[name], p)
		used[name] += bytes
	}
	for name := range out {
		slices.SortFunc(out[name], comparePods)
	}
	return out
}

// freeName is the first of a node's names that is not in use.
func freeName(node string, now, next parts) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d", node, i)
		_, used := now[name]
		_, taken := next[name]
		if !used && !taken {
			return name
		}
	}
}

func comparePods(a, b model.NodeEndpoint) int {
	return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name))
}

// differ lists the slices to write, and those to delete.
func differ(now, next parts) (write, remove []string) {
	for name, eps := range next {
		if had, ok := now[name]; !ok || !reflect.DeepEqual(had, eps) {
			write = append(write, name)
		}
	}
	for name := range now {
		if _, ok := next[name]; !ok {
			remove = append(remove, name)
		}
	}
	slices.Sort(write)
	slices.Sort(remove)
	return write, remove
}
