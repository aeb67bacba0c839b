// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/operator/allocator"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
)

// requestTimeout bounds one request.
const requestTimeout = 10 * time.Second

// pageSize is how many objects one answer has at most when all are listed.
const pageSize = 500

// sourceBroken marks the labels of an object that cannot be understood: no pod has
// them, so the number stays taken and is collected when no one speaks of it.
const sourceBroken = "broken"

// Store keeps identities as WeftIdentity objects: one that the API server has taken
// in is durable, and it takes in each number once, whoever asks.
type Store struct {
	live    client.Reader // no cache: a new leader must see what the old one wrote last
	write   client.Writer
	created func() // told of each object that was made

	mu     sync.Mutex
	newest model.IdentityID
}

// Load implements allocator.Store. Numbers go on behind the one that was made last.
func (s *Store) Load(ctx context.Context) (allocator.Snapshot, error) {
	var snap allocator.Snapshot
	var newest v1alpha1.WeftIdentity
	list := &v1alpha1.WeftIdentityList{}
	for {
		page, cancel := context.WithTimeout(ctx, requestTimeout)
		err := s.live.List(page, list, client.Limit(pageSize), client.Continue(list.Continue))
		cancel()
		if err != nil {
			return allocator.Snapshot{}, fmt.Errorf("listing WeftIdentities: %w", err)
		}
		for i := range list.Items {
			id, ok := identityOf(&list.Items[i])
			if !ok {
				continue
			}
			snap.Identities = append(snap.Identities, id)
			if later(&list.Items[i], id.ID, &newest, snap.Next) {
				newest, snap.Next = list.Items[i], id.ID
			}
		}
		if list.Continue == "" {
			break
		}
	}
	s.setNewest(snap.Next)
	if snap.Next != 0 {
		snap.Next++
	}
	return snap, nil
}

// later tells whether a was made after b; the API tells times by the second.
func later(a *v1alpha1.WeftIdentity, aID model.IdentityID, b *v1alpha1.WeftIdentity, bID model.IdentityID) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return b.CreationTimestamp.Before(&a.CreationTimestamp)
	}
	return aID > bID
}

// identityOf converts an object; false if its name is no number.
func identityOf(obj *v1alpha1.WeftIdentity) (model.Identity, bool) {
	if id, errs := k8s.IdentityFrom(obj); len(errs) == 0 {
		return id, true
	}
	n, err := strconv.ParseUint(obj.Name, 10, 32)
	id := model.IdentityID(n)
	if err != nil || !id.IsCluster() {
		return model.Identity{}, false
	}
	return model.Identity{ID: id, Labels: model.NewLabels(model.Label{Source: sourceBroken, Key: obj.Name})}, true
}

// isBroken tells whether an object cannot be understood.
func isBroken(id model.Identity) bool {
	return slices.ContainsFunc(id.Labels, func(l model.Label) bool { return l.Source == sourceBroken })
}

// Newest is the number that was made last. Its object stays, so that the next
// leader knows where numbers stood.
func (s *Store) Newest() model.IdentityID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// setNewest takes the number that is further on; numbers go round.
func (s *Store) setNewest(id model.IdentityID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const round = int64(model.MinLocalIdentity - model.MinClusterIdentity)
	if ahead := int64(id) - int64(s.newest); s.newest == 0 || ahead > 0 || ahead < -round/2 {
		s.newest = id
	}
}

// Save implements allocator.Store for changes of one identity.
func (s *Store) Save(ctx context.Context, c allocator.Change) error {
	for _, id := range c.Put {
		if err := s.create(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range c.Delete {
		if err := s.remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) create(ctx context.Context, id model.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := s.write.Create(ctx, k8s.IdentityTo(id))
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("WeftIdentity %d: %w", id.ID, allocator.ErrTaken)
	}
	if err != nil {
		return fmt.Errorf("creating a WeftIdentity: %w", err)
	}
	s.setNewest(id.ID)
	s.created()
	return nil
}

// remove deletes the object that was read, not one that took its name since.
func (s *Store) remove(ctx context.Context, id model.IdentityID) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	obj := &v1alpha1.WeftIdentity{}
	if err := s.live.Get(ctx, client.ObjectKey{Name: k8s.IdentityName(id)}, obj); err != nil {
		return client.IgnoreNotFound(err)
	}
	err := s.write.Delete(ctx, obj, client.Preconditions{UID: &obj.UID, ResourceVersion: &obj.ResourceVersion})
	return client.IgnoreNotFound(err)
}

// named is the index of slices by the identities that they name.
const named = "identities"

func identitiesOf(o client.Object) []string {
	s, ok := o.(*v1alpha1.WeftEndpointSlice)
	if !ok {
		return nil
	}
	var out []string
	for _, e := range s.Endpoints {
		out = append(out, strconv.FormatInt(e.Identity, 10))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
