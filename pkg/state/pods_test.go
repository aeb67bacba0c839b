// SPDX-License-Identifier: Apache-2.0

package state

import (
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func newTables(t *testing.T) *Tables {
	t.Helper()
	tables, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// must gives the revision of an edit that must not fail.
func must(t *testing.T) func(model.Revision, error) model.Revision {
	return func(rev model.Revision, err error) model.Revision {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
}

func TestOrphanLastsAsLongAsItsAttachment(t *testing.T) {
	tables, edit := newTables(t), must(t)
	key := model.PodKey{Namespace: "demo", Name: "web"}
	left := model.Pod{PodKey: key, Labels: map[string]string{"app": "old"}}
	edit(tables.AddOrphan(left))
	if _, ok := tables.Pod(key); ok {
		t.Error("a pod that is not attached was added")
	}
	edit(tables.UpsertEndpoint(model.Endpoint{ID: 1, Pod: key}))
	rev := edit(tables.AddOrphan(left))
	if again := edit(tables.AddOrphan(left)); again != rev {
		t.Errorf("the same again moved the revision from %d to %d", rev, again)
	}
	if tables.Synced() {
		t.Error("what an earlier agent left counts as the source's word")
	}
	edit(tables.ReplaceSource(Source{}))
	if p, ok := tables.Pod(key); !ok || !p.Orphan || p.Labels["app"] != "old" {
		t.Errorf("not declared, but attached: %+v", p)
	}
	edit(tables.DeleteEndpoint(1))
	if p, ok := tables.Pod(key); ok {
		t.Errorf("neither declared nor attached: %+v", p)
	}
}

func TestDeclaredPodIsNoOrphan(t *testing.T) {
	tables, edit := newTables(t), must(t)
	key := model.PodKey{Namespace: "demo", Name: "web"}
	left := model.Pod{PodKey: key, Labels: map[string]string{"app": "old"}}
	declared := Source{Pods: []model.Pod{{PodKey: key, Labels: map[string]string{"app": "new"}}}}
	edit(tables.UpsertEndpoint(model.Endpoint{ID: 1, Pod: key}))
	edit(tables.AddOrphan(left))
	edit(tables.ReplaceSource(declared))
	edit(tables.AddOrphan(left))
	if p, _ := tables.Pod(key); p.Orphan || p.Labels["app"] != "new" {
		t.Errorf("the declared pod is %+v", p)
	}
}
