// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// byPolicy is the index of WeftNodes by the policies that their proxies have faults of.
const byPolicy = "proxyFaults"

func indexKey(kind string, name types.NamespacedName) string { return kind + " " + name.String() }

func policyOf(f v1alpha1.ProxyFault) types.NamespacedName {
	return types.NamespacedName{Namespace: f.Namespace, Name: f.Name}
}

// index lets the nodes be found that a policy is refused on.
func index(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.WeftNode{}, byPolicy, func(o client.Object) (keys []string) {
		for _, f := range faultsOf(o) {
			keys = append(keys, indexKey(f.Kind, policyOf(f)))
		}
		return keys
	})
	if err != nil {
		return fmt.Errorf("indexing what proxies refuse: %w", err)
	}
	return nil
}

func faultsOf(o client.Object) []v1alpha1.ProxyFault {
	if n, ok := o.(*v1alpha1.WeftNode); ok {
		return n.Status.ProxyFaults
	}
	return nil
}

// refusedOn gives what proxies have against a policy, by node.
func refusedOn(ctx context.Context, c client.Client, kind string, name types.NamespacedName) (map[string]string, error) {
	var nodes v1alpha1.WeftNodeList
	if err := c.List(ctx, &nodes, client.MatchingFields{byPolicy: indexKey(kind, name)}); err != nil {
		return nil, fmt.Errorf("looking for nodes that refuse it: %w", err)
	}
	out := make(map[string]string, len(nodes.Items))
	for _, n := range nodes.Items {
		for _, f := range n.Status.ProxyFaults {
			if f.Kind == kind && policyOf(f) == name {
				out[n.Name] = f.Message
			}
		}
	}
	return out, nil
}

// concerned gives the policies of a kind that a node's faults are, or were, about.
func concerned(kind string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) (out []reconcile.Request) {
		for _, f := range faultsOf(o) {
			if f.Kind == kind {
				out = append(out, reconcile.Request{NamespacedName: policyOf(f)})
			}
		}
		return out
	})
}

// faultsChanged lets pass what says something new of faults.
func faultsChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool { return !slices.Equal(faultsOf(e.ObjectOld), faultsOf(e.ObjectNew)) },
	}
}
