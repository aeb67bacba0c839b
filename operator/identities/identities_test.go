// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"context"
	"log/slog"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/operator/allocator"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// kept is a store that counts what is written to it.
type kept struct {
	snap  allocator.Snapshot
	saved int
}

func (k *kept) Load(context.Context) (allocator.Snapshot, error) { return k.snap, nil }

func (k *kept) Save(context.Context, allocator.Change) error {
	k.saved++
	return nil
}

// Of objects that someone deletes, that of an identity comes back, and one that
// nobody understands does not: it would be as broken as before.
func TestABrokenIdentityStaysDeleted(t *testing.T) {
	store := &kept{}
	for name, label := range map[string]string{"300": "k8s:app=web", "301": "reserved:host"} {
		id, ok := identityOf(&v1alpha1.WeftIdentity{ObjectMeta: metav1.ObjectMeta{Name: name}, SecurityLabels: []string{label}})
		if !ok {
			t.Fatalf("%s has no number", name)
		}
		store.snap.Identities = append(store.snap.Identities, id)
	}
	x := &Identities{Config: Config{Log: slog.New(slog.DiscardHandler)}, alloc: allocator.New(allocator.Config{Store: store, Now: time.Now, Batch: 1})}
	if err := x.loaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		saved int
	}{{"301", 0}, {"300", 1}} {
		if err := x.missed(t.Context(), tt.name); err != nil {
			t.Fatal(err)
		}
		if store.saved != tt.saved {
			t.Errorf("after %s was deleted: %d writes, want %d", tt.name, store.saved, tt.saved)
		}
	}
}
