// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
)

// fieldsOf maps the names of a struct's fields, those of embedded structs
// included, to their place.
func (d *decoder) fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := d.fields[t]; ok {
		return known
	}
	known := make(map[string][]int)
	collect(t, nil, known)
	d.fields[t] = known
	return known
}

func collect(t reflect.Type, prefix []int, into map[string][]int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		index := append(append([]int(nil), prefix...), i)
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			collect(f.Type, index, into)
		case name == "-" || !f.IsExported():
		case name == "":
			into[f.Name] = index
		default:
			into[name] = index
		}
	}
}

// unknownField is the message for a field that the type does not have.
func unknownField(name string, known map[string][]int) string {
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
	}
	sort.Strings(names)
	if best := Nearest(name, names); best != "" {
		return fmt.Sprintf("unknown field; did you mean %q?", best)
	}
	const most = 12
	if len(names) <= most {
		return "unknown field; remove it, or use one of: " + strings.Join(names, ", ")
	}
	return "unknown field; remove it or correct its name"
}

// Nearest is the candidate that name is most likely a misspelling of, or "".
func Nearest(name string, candidates []string) string {
	best, bestDist := "", 1+max(1, min(3, len(name)/3))
	for _, c := range candidates {
		if strings.EqualFold(c, name) {
			return c
		}
		if dist := distance(strings.ToLower(name), strings.ToLower(c), bestDist); dist < bestDist {
			best, bestDist = c, dist
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour; limit is returned for anything not below it.
func distance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	before, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev = prev, row
	}
	return min(prev[len(b)], limit)
}
