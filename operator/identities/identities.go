// SPDX-License-Identifier: Apache-2.0

// Package identities gives each pod its identity as soon as the pod is there, and
// takes back the numbers that no one uses.
package identities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weftmesh/weft/operator/allocator"
	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/metrics"
	"github.com/weftmesh/weft/pkg/model"
)

// Config tells how identities are made. Agents must use the same filter and
// cluster, or they do not find what is made here.
type Config struct {
	Filter  identity.Filter
	Cluster string
	Grace   time.Duration // how long an identity stays after its last use
	Metrics *metrics.Operator
	Events  events.EventRecorder
	Log     *slog.Logger
}

// Identities is for the leader.
type Identities struct {
	Config
	client client.Client // reads from memory
	store  *Store
	alloc  *allocator.Allocator
}

// workers is how many pods are looked at at once. Most have labels that others
// have, and wait for nothing; the others wait for the API server.
const workers = 16

// Add makes the controllers and adds them to the manager.
func Add(mgr ctrl.Manager, cfg Config) error {
	s := &Store{live: mgr.GetAPIReader(), write: mgr.GetClient(),
		created: func() { cfg.Metrics.Allocation("created") }}
	x := &Identities{Config: cfg, client: mgr.GetClient(), store: s}
	x.alloc = allocator.New(allocator.Config{Store: s, Now: time.Now, Grace: cfg.Grace, Batch: 1, Concurrent: true, Named: x.named})
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.WeftEndpointSlice{}, named, identitiesOf); err != nil {
		return fmt.Errorf("indexing slices: %w", err)
	}
	pods := ctrl.NewControllerManagedBy(mgr).Named("identities-of-pods").
		For(&corev1.Pod{}, builder.WithPredicates(relevant())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(x.podsOf), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: watch.Retries()}).
		Complete(watch.Counted(cfg.Metrics, "Pod", x.pod))
	objects := ctrl.NewControllerManagedBy(mgr).Named("identities").
		For(&v1alpha1.WeftIdentity{}).
		WithOptions(controller.Options{RateLimiter: watch.Retries()}).
		Complete(watch.Counted(cfg.Metrics, v1alpha1.KindIdentity, x.object))
	return errors.Join(pods, objects, mgr.Add(x))
}

// relevant leaves out what changes no identity.
func relevant() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return wants(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return wants(e.ObjectNew) && !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

// wants tells whether a pod has a network of its own.
func wants(o client.Object) bool {
	p, ok := o.(*corev1.Pod)
	return ok && !p.Spec.HostNetwork && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func (x *Identities) podsOf(ctx context.Context, ns client.Object) []reconcile.Request {
	var pods corev1.PodList
	if err := x.client.List(ctx, &pods, client.InNamespace(ns.GetName()), client.UnsafeDisableDeepCopy); err != nil {
		x.Log.Error("listing pods of a namespace", "namespace", ns.GetName(), "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range pods.Items {
		if wants(&pods.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
		}
	}
	return out
}

// pod allocates for one pod.
func (x *Identities) pod(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var pod corev1.Pod
	if err := x.client.Get(ctx, req.NamespacedName, &pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !wants(&pod) {
		return reconcile.Result{}, nil
	}
	if err := x.loaded(ctx); err != nil {
		return reconcile.Result{}, err
	}
	labels, err := x.labelsOf(ctx, &pod)
	if err == nil {
		_, err = x.alloc.Allocate(ctx, labels)
	}
	return reconcile.Result{}, x.report(&pod, err)
}

// report tells of a failure where people look for it: at the pod. Without its
// identity the pod waits for its network.
func (x *Identities) report(pod *corev1.Pod, err error) error {
	reason := "IdentityFailed"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, allocator.ErrExhausted):
		reason = "IdentitiesExhausted"
		x.Metrics.Allocation("exhausted")
	default:
		x.Metrics.Allocation("failed")
	}
	x.Events.Eventf(pod, nil, corev1.EventTypeWarning, reason, "AllocateIdentity", "%s", short(err))
	return err
}

// maxNote is how long the text of an event may be.
const maxNote = 1024

func short(err error) string {
	s := err.Error()
	return s[:min(len(s), maxNote)]
}

// labelsOf is what the agent computes, too.
func (x *Identities) labelsOf(ctx context.Context, pod *corev1.Pod) (model.Labels, error) {
	var ns corev1.Namespace
	if err := x.client.Get(ctx, types.NamespacedName{Name: pod.Namespace}, &ns, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("looking for the pod's namespace: %w", err)
	}
	space, errs := convert.Namespace(&ns)
	p, podErrs := convert.Pod(pod)
	if errs = append(errs, podErrs...); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return identity.LabelsOf(p, space, x.Cluster, x.Filter), nil
}

// loaded reads all objects once, before anything is handed out.
func (x *Identities) loaded(ctx context.Context) error { return x.alloc.LoadOnce(ctx) }

// object follows what happens to a WeftIdentity.
func (x *Identities) object(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := x.loaded(ctx); err != nil {
		return reconcile.Result{}, err
	}
	defer func() { x.Metrics.SetIdentities(x.alloc.Len()) }()
	var obj v1alpha1.WeftIdentity
	err := x.client.Get(ctx, req.NamespacedName, &obj)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, x.missed(ctx, req.Name)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	id, ok := identityOf(&obj)
	if !ok {
		x.Log.Warn("a WeftIdentity whose name is no number of an identity is not used; delete it", "name", req.Name)
		return reconcile.Result{}, nil
	}
	if x.alloc.Learn(id) {
		x.Log.Warn("a WeftIdentity was made by someone else; it is used", "name", req.Name)
	}
	return reconcile.Result{}, nil
}

func (x *Identities) missed(ctx context.Context, name string) error {
	id, ok := identityOf(&v1alpha1.WeftIdentity{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if !ok {
		return nil
	}
	if had, known := x.alloc.Get(id.ID); known && isBroken(had) {
		return nil // no node uses it: its number is free again when it is collected
	}
	again, err := x.alloc.Missed(ctx, id.ID)
	if again {
		x.Log.Warn("a WeftIdentity that is known was deleted by someone else; it is there again", "name", name)
	}
	return err
}

// named tells whether a slice speaks of a number; if that cannot be said, yes.
func (x *Identities) named(id model.IdentityID) bool {
	var found v1alpha1.WeftEndpointSliceList
	err := x.client.List(context.Background(), &found, client.MatchingFields{named: fmt.Sprint(uint32(id))},
		client.Limit(1), client.UnsafeDisableDeepCopy)
	return err != nil || len(found.Items) > 0
}
