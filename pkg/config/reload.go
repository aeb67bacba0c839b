// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"
)

// Reload takes into a running agent's configuration what a new one changes and
// what may change without a restart (fields tagged reload). It returns the
// configuration to go on with, the fields that changed in it, and those whose
// change waits for a restart.
func Reload(running, read Config) (next Config, changed, waiting []string) {
	next = running
	to, from := reflect.ValueOf(&next).Elem(), reflect.ValueOf(read)
	visit(to.Type(), "", nil, func(field string, f reflect.StructField, index []int) {
		now, wish := to.FieldByIndex(index), from.FieldByIndex(index)
		if reflect.DeepEqual(now.Interface(), wish.Interface()) {
			return
		}
		if f.Tag.Get("reload") == "" {
			waiting = append(waiting, field)
			return
		}
		now.Set(wish)
		changed = append(changed, field)
	})
	return next, changed, waiting
}

// visit calls see for each setting, in the order of the file.
func visit(t reflect.Type, prefix string, at []int, see func(field string, f reflect.StructField, index []int)) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		index := append(append([]int(nil), at...), i)
		if f.Type.Kind() == reflect.Struct {
			visit(f.Type, prefix+name+".", index, see)
			continue
		}
		see(prefix+name, f, index)
	}
}
