// SPDX-License-Identifier: Apache-2.0

// Package nodes keeps a WeftNode for each Node, with ranges for its pods, and
// keeps pods away from nodes whose agent is not ready.
package nodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weftmesh/weft/operator/ranges"
	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/metrics"
)

// Config tells how nodes are kept.
type Config struct {
	ClusterCIDRs []netip.Prefix
	Namespace    string        // of the agents
	Grace        time.Duration // a quarter of it is between two looks for slices of nodes that are gone
	Metrics      *metrics.Operator
	Events       events.EventRecorder
	Log          *slog.Logger
}

// Nodes is for the leader.
type Nodes struct {
	Config
	client client.Client // reads from memory
	live   client.Reader

	mu       sync.Mutex // one node at a time
	pool     *ranges.Pool
	loaded   bool
	notReady map[string]time.Time // since when
	up       map[string]bool      // nodes that are ready, or not
	told     map[string]string    // what was last said of a node that stays as it is
}

// problemRetry is after what time a node is looked at again that has a problem
// which another object may solve.
const problemRetry = 30 * time.Second

// agentOn is the index of agents' pods by their node.
const agentOn = "agentOn"

// Add makes the controller and adds it to the manager.
func Add(mgr ctrl.Manager, cfg Config) error {
	n := &Nodes{Config: cfg, client: mgr.GetClient(), live: mgr.GetAPIReader(), pool: ranges.New(cfg.ClusterCIDRs),
		notReady: map[string]time.Time{}, up: map[string]bool{}, told: map[string]string{}}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, agentOn, n.nodeOfAgent)
	if err != nil {
		return fmt.Errorf("indexing pods: %w", err)
	}
	same := &handler.EnqueueRequestForObject{}
	return errors.Join(ctrl.NewControllerManagedBy(mgr).Named("nodes").
		For(&corev1.Node{}).
		Watches(&v1alpha1.WeftNode{}, same).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(n.ofAgent)).
		WithOptions(controller.Options{RateLimiter: watch.Retries()}).
		Complete(watch.Counted(cfg.Metrics, "Node", n.node)), mgr.Add(collector{n}))
}

// nodeOfAgent is the node of a pod that is an agent's.
func (n *Nodes) nodeOfAgent(o client.Object) []string {
	p, ok := o.(*corev1.Pod)
	if !ok || p.Namespace != n.Namespace || p.Labels[watch.LabelName] != watch.AgentName || p.Spec.NodeName == "" {
		return nil
	}
	return []string{p.Spec.NodeName}
}

func (n *Nodes) ofAgent(_ context.Context, o client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, name := range n.nodeOfAgent(o) {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return out
}

func (n *Nodes) node(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(ctx); err != nil {
		return reconcile.Result{}, err
	}
	defer n.count()
	var node corev1.Node
	err := n.client.Get(ctx, req.NamespacedName, &node)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, n.gone(ctx, req.Name)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	own, problem, err := n.keepSpec(ctx, &node)
	if err != nil {
		return reconcile.Result{}, err // what follows depends on it
	}
	wait, err := n.keepReady(ctx, &node, own, problem)
	if problem != nil && (wait == 0 || wait > problemRetry) {
		wait = problemRetry
	}
	return reconcile.Result{RequeueAfter: wait}, err
}

// load notes what nodes have before anything is given out: as it is now, not as
// memory has it.
func (n *Nodes) load(ctx context.Context) error {
	if n.loaded {
		return nil
	}
	var all v1alpha1.WeftNodeList
	if err := n.live.List(ctx, &all); err != nil {
		return fmt.Errorf("listing WeftNodes: %w", err)
	}
	for _, o := range inOrder(all.Items) {
		has, err := parse(o.Spec.PodCIDRs)
		if err == nil {
			err = n.pool.Adopt(o.Name, has)
		}
		if err != nil {
			n.Log.Warn("a node's pod ranges cannot be taken over", "node", o.Name, "error", err)
		}
	}
	n.loaded = true
	return nil
}

// count updates what is shown of all nodes.
func (n *Nodes) count() {
	for _, u := range n.pool.Usage() {
		n.Metrics.SetPool(u.Prefix.String(), u.Used, u.Blocks)
	}
	ready := 0
	for _, up := range n.up {
		if up {
			ready++
		}
	}
	n.Metrics.SetNodes(ready, len(n.up)-ready)
}

// report tells of what is wrong with a node where people look for it.
func (n *Nodes) report(node *corev1.Node, reason string, err error) {
	n.Log.Warn("a node needs attention", "node", node.Name, "reason", reason, "error", err)
	n.Events.Eventf(node, nil, corev1.EventTypeWarning, reason, "KeepWeftNode", "%s", err)
}

// reportOnce is report of what nothing but another configuration changes.
func (n *Nodes) reportOnce(node *corev1.Node, reason string, err error) {
	if n.told[node.Name] != err.Error() {
		n.told[node.Name] = err.Error()
		n.report(node, reason, err)
	}
}
