// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/weftmesh/weft/pkg/k8s"
)

// feed is where the reflector of one kind puts its objects. It remembers their
// names, to know after an outage which are gone. An object with a fault counts as it
// last was, or not at all.
type feed struct {
	kind  kind
	batch *batch
	have  map[types.NamespacedName]bool // true: it has been right
}

// feed is a store that has objects converted while a list still streams in.
var _ cache.TransformingStore = (*feed)(nil)

func newFeed(k kind, b *batch) *feed {
	return &feed{kind: k, batch: b, have: make(map[types.NamespacedName]bool)}
}

// arrived is an object in the form in which it is handed on.
type arrived struct {
	name  types.NamespacedName
	enter enter // nil: the object says nothing
	fault *k8s.Fault
}

// GetObjectMeta lets a list that streams in find the object again.
func (a *arrived) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: a.name.Namespace, Name: a.name.Name}
}

// Transformer implements cache.TransformingStore.
func (f *feed) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return f.arrive(obj) }
}

func (f *feed) arrive(obj any) (*arrived, error) {
	if a, ok := obj.(*arrived); ok {
		return a, nil
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("reading the metadata of a %s: %w", f.kind.name, err)
	}
	a := &arrived{name: types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}}
	enter, errs := f.kind.put(obj)
	a.enter, a.fault = enter, k8s.NewFault(f.kind.name, a.name.Namespace, a.name.Name, errs)
	return a, nil
}

// Add implements cache.ReflectorStore.
func (f *feed) Add(obj any) error {
	a, err := f.arrive(obj)
	if err != nil {
		return err
	}
	f.batch.edit(func() { f.take(a) })
	return nil
}

// Update implements cache.ReflectorStore.
func (f *feed) Update(obj any) error { return f.Add(obj) }

// Delete implements cache.ReflectorStore.
func (f *feed) Delete(obj any) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return fmt.Errorf("reading the metadata of a %s: %w", f.kind.name, err)
	}
	f.batch.edit(func() { f.drop(types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}) })
	return nil
}

// Replace implements cache.ReflectorStore: a whole list.
func (f *feed) Replace(list []any, _ string) error {
	all := make([]*arrived, len(list))
	there := make(map[types.NamespacedName]bool, len(list))
	for i, obj := range list {
		a, err := f.arrive(obj)
		if err != nil {
			return err
		}
		all[i], there[a.name] = a, true
	}
	f.batch.edit(func() {
		for name := range f.have {
			if !there[name] {
				f.drop(name)
			}
		}
		for _, a := range all {
			f.take(a)
		}
		delete(f.batch.unlisted, f.kind.name)
	})
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (f *feed) Resync() error { return nil }

func (f *feed) object(name types.NamespacedName) string { return f.kind.name + " " + name.String() }

func (f *feed) take(a *arrived) {
	key := f.object(a.name)
	if a.fault != nil {
		kept := f.have[a.name]
		f.have[a.name] = kept
		f.batch.fault(key, Problem{Fault: *a.fault, Kept: kept})
		return
	}
	f.batch.clear(key)
	if a.enter == nil {
		f.drop(a.name)
		return
	}
	f.have[a.name] = true
	f.batch.pending[key] = a.enter
}

func (f *feed) drop(name types.NamespacedName) {
	key := f.object(name)
	f.batch.clear(key)
	if _, had := f.have[name]; had {
		delete(f.have, name)
		f.batch.pending[key] = f.kind.gone(name)
	}
}
