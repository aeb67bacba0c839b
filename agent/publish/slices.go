// SPDX-License-Identifier: Apache-2.0

// Package publish tells the other nodes of a cluster what runs on this one: its
// endpoints, in WeftEndpointSlices, and whether it works, in the status of its
// WeftNode.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
)

const (
	// checkEvery is how often what the API server holds is compared with what was
	// written.
	checkEvery = time.Minute
	// echo is how long a watch may take to tell what was just written.
	echo = 5 * time.Second
	// maxBytes of endpoints are in a slice. A change of one sends its slice to every
	// node, which with the object's metadata is to take at most 10,000 bytes.
	maxBytes = 8500
)

// SliceClient writes slices.
type SliceClient interface {
	Create(context.Context, *v1alpha1.WeftEndpointSlice, metav1.CreateOptions) (*v1alpha1.WeftEndpointSlice, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*v1alpha1.WeftEndpointSlice, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// NodeClient reads nodes, and writes their status.
type NodeClient interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.WeftNode, error)
	UpdateStatus(context.Context, *v1alpha1.WeftNode, metav1.UpdateOptions) (*v1alpha1.WeftNode, error)
}

// Config is what Slices works with.
type Config struct {
	Node   string
	Slices SliceClient
	Nodes  NodeClient
	Log    *slog.Logger
	// Pods are those to tell of, one of a name; false: nothing is known yet.
	Pods func() ([]model.NodeEndpoint, bool)
	// Held are the node's slices as the API server told them last.
	Held func() []model.NodeSlice
	// Changed closes when Pods or Held may answer otherwise.
	Changed func() <-chan struct{}
}

// Slices keeps the node's slices.
type Slices struct {
	cfg     Config
	now     parts // as written last, or as found
	adopted bool
	wrote   time.Time
}

// New makes one; Run does the work.
func New(cfg Config) *Slices { return &Slices{cfg: cfg} }

// Run writes what changes until ctx ends. What was written stays then.
func (s *Slices) Run(ctx context.Context) error {
	return follow(ctx, s.cfg.Log, s.cfg.Changed, func() (time.Duration, error) {
		err := s.pass(ctx)
		return s.untilNext(), err
	})
}

// untilNext is when to look again though nothing is told: what became of a slice by
// someone else's hand soon after it was written was not looked at.
func (s *Slices) untilNext() time.Duration {
	if left := echo - time.Since(s.wrote); left >= 0 {
		return left + gather
	}
	return checkEvery
}

// pass brings the API server to what is.
func (s *Slices) pass(ctx context.Context) error {
	pods, ok := s.cfg.Pods()
	if !ok {
		return nil
	}
	if !s.adopted || time.Since(s.wrote) > echo {
		s.now = make(parts)
		for _, slice := range s.cfg.Held() {
			s.now[slice.Name] = slice.Endpoints
		}
		s.adopted = true
	}
	next := assign(s.cfg.Node, s.now, pods, room{v1alpha1.MaxSliceEndpoints, maxBytes})
	write, remove := differ(s.now, next)
	var errs []error
	for _, name := range write {
		err := s.write(ctx, model.NodeSlice{Name: name, Node: s.cfg.Node, Endpoints: next[name]})
		if errs = append(errs, err); err == nil {
			s.now[name], s.wrote = next[name], time.Now()
		}
	}
	for _, name := range remove {
		err := s.cfg.Slices.Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("deleting WeftEndpointSlice %s: %w", name, err))
			continue
		}
		delete(s.now, name)
		s.wrote = time.Now()
	}
	return errors.Join(errs...)
}

// write makes a slice what it should be, whether it is there or not.
func (s *Slices) write(ctx context.Context, slice model.NodeSlice) error {
	if _, there := s.now[slice.Name]; there {
		err := s.patch(ctx, slice)
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	node, err := s.cfg.Nodes.Get(ctx, s.cfg.Node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading WeftNode %s, which owns the slices: %w", s.cfg.Node, k8s.Short(err))
	}
	_, err = s.cfg.Slices.Create(ctx, k8s.SliceTo(slice, k8s.NodeOwner(node)), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return s.patch(ctx, slice)
	}
	if err != nil {
		return fmt.Errorf("creating WeftEndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

func (s *Slices) patch(ctx context.Context, slice model.NodeSlice) error {
	data, err := json.Marshal(map[string]any{"endpoints": k8s.SliceTo(slice, metav1.OwnerReference{}).Endpoints})
	if err != nil {
		return fmt.Errorf("writing WeftEndpointSlice %s: %w", slice.Name, err)
	}
	if _, err := s.cfg.Slices.Patch(ctx, slice.Name, types.MergePatchType, data, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("writing WeftEndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// Newest leaves one endpoint of each pod, the one that was attached last: while a
// pod's sandbox is made anew it has two.
func Newest(all []Attached) []model.NodeEndpoint {
	newest := make(map[model.PodKey]Attached, len(all))
	for _, a := range all {
		if old, had := newest[a.Pod]; !had || old.Number < a.Number {
			newest[a.Pod] = a
		}
	}
	out := make([]model.NodeEndpoint, 0, len(newest))
	for _, a := range newest {
		out = append(out, a.NodeEndpoint)
	}
	slices.SortFunc(out, comparePods)
	return out
}

// Attached is an endpoint with its number, which grows with time.
type Attached struct {
	model.NodeEndpoint
	Number uint32
}
