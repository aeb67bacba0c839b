// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// origin is the Source of what comes from here.
const origin = "kubernetes"

// kind is one kind of object that is watched.
type kind struct {
	name    string
	example any    // what arrives
	fields  string // field selector
	list    func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, metav1.ListOptions) (watch.Interface, error)
	// put converts an object; nil without a fault: it is of no interest.
	put  func(obj any) (enter, field.ErrorList)
	gone func(types.NamespacedName) enter
}

// client lists and watches one kind.
type client[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// kinds are all that a node watches.
func kinds(c *k8s.Client, node string) []kind {
	pods := kindOf("Pod", c.Pods, podOf, putPod, goneNamed(func(c *state.Changes, n types.NamespacedName) {
		c.Gone.Pods = append(c.Gone.Pods, model.PodKey{Namespace: n.Namespace, Name: n.Name})
	}))
	pods.fields = "spec.nodeName=" + node
	return []kind{
		pods,
		kindOf("Namespace", c.Namespaces, convert.Namespace, putNamespace, goneNamed(func(c *state.Changes, n types.NamespacedName) {
			c.Gone.Namespaces = append(c.Gone.Namespaces, n.Name)
		})),
		kindOf("Service", c.Services, convert.Service, putService, goneNamed(func(c *state.Changes, n types.NamespacedName) {
			c.Gone.Services = append(c.Gone.Services, model.ServiceKey{Namespace: n.Namespace, Name: n.Name})
		})),
		kindOf("EndpointSlice", c.EndpointSlices, endpointSlice, putSlice, goneNamed(func(c *state.Changes, n types.NamespacedName) {
			c.Gone.EndpointSlices = append(c.Gone.EndpointSlices, model.EndpointSliceKey{Namespace: n.Namespace, Name: n.Name})
		})),
		kindOf(netpol.Kind, c.NetworkPolicies, convert.NetworkPolicy, putPolicies, gonePolicy(netpol.Kind)),
		kindOf(v1alpha1.KindNetworkPolicy, c.Policies, convert.WeftNetworkPolicy, putPolicies, gonePolicy(v1alpha1.KindNetworkPolicy)),
		kindOf(v1alpha1.KindClusterNetworkPolicy, c.ClusterPolicies, convert.WeftClusterNetworkPolicy, putPolicies, gonePolicy(v1alpha1.KindClusterNetworkPolicy)),
		kindOf(v1alpha1.KindIdentity, c.Identities, k8s.IdentityFrom, func(c *state.Changes, v model.Identity) {
			c.Identities = append(c.Identities, v)
		}, goneNamed(func(c *state.Changes, n types.NamespacedName) {
			if id, err := strconv.ParseUint(n.Name, 10, 32); err == nil {
				c.Gone.Identities = append(c.Gone.Identities, model.IdentityID(id))
			}
		})),
		kindOf(v1alpha1.KindNode, c.Nodes, k8s.NodeFrom, func(c *state.Changes, v model.ClusterNode) {
			v.Source = origin
			c.Put.Nodes = append(c.Put.Nodes, v)
		}, goneNamed(func(c *state.Changes, n types.NamespacedName) { c.Gone.Nodes = append(c.Gone.Nodes, n.Name) })),
		kindOf(v1alpha1.KindEndpointSlice, c.NodeSlices, k8s.SliceFrom, func(c *state.Changes, v model.NodeSlice) {
			v.Source = origin
			c.Put.NodeSlices = append(c.Put.NodeSlices, v)
		}, goneNamed(func(c *state.Changes, n types.NamespacedName) { c.Gone.NodeSlices = append(c.Gone.NodeSlices, n.Name) })),
	}
}

// kindOf makes a kind of its client, its converter and how what it converts to is
// entered.
func kindOf[T, M any, L runtime.Object](name string, c client[L], conv func(*T) (M, field.ErrorList),
	put func(*state.Changes, M), gone func(types.NamespacedName) enter) kind {
	return kind{
		name: name, example: new(T), gone: gone,
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, o) },
		watch: c.Watch,
		put: func(obj any) (enter, field.ErrorList) {
			in, ok := obj.(*T)
			if !ok {
				return nil, field.ErrorList{field.InternalError(nil, fmt.Errorf("a %T arrived in place of a %s", obj, name))}
			}
			out, errs := conv(in)
			if len(errs) > 0 || ignored(out) {
				return nil, errs
			}
			return func(c *state.Changes) { put(c, out) }, nil
		},
	}
}

// ignored tells whether a value says nothing: a slice of no service.
func ignored(v any) bool {
	s, ok := v.(model.EndpointSlice)
	return ok && s.Service.Name == ""
}

// podOf also notes the addresses that a manifest would not know.
func podOf(in *corev1.Pod) (model.Pod, field.ErrorList) {
	out, errs := convert.Pod(in)
	out.Addrs = convert.PodAddrs(in)
	return out, errs
}

// endpointSlice leaves out slices of names, which the API has room for and nobody
// can balance.
func endpointSlice(in *discoveryv1.EndpointSlice) (model.EndpointSlice, field.ErrorList) {
	if in.AddressType == discoveryv1.AddressTypeFQDN {
		return model.EndpointSlice{}, nil
	}
	return convert.EndpointSlice(in)
}

func goneNamed(f func(*state.Changes, types.NamespacedName)) func(types.NamespacedName) enter {
	return func(n types.NamespacedName) enter { return func(c *state.Changes) { f(c, n) } }
}

func gonePolicy(kind string) func(types.NamespacedName) enter {
	return goneNamed(func(c *state.Changes, n types.NamespacedName) {
		c.Gone.Policies = append(c.Gone.Policies, model.PolicyKey{Kind: kind, Namespace: n.Namespace, Name: n.Name})
	})
}

func putPod(c *state.Changes, v model.Pod) {
	v.Source = origin
	c.Put.Pods = append(c.Put.Pods, v)
}

func putNamespace(c *state.Changes, v model.Namespace) {
	v.Source = origin
	c.Put.Namespaces = append(c.Put.Namespaces, v)
}

func putService(c *state.Changes, v model.Service) {
	v.Source = origin
	c.Put.Services = append(c.Put.Services, v)
}

func putSlice(c *state.Changes, v model.EndpointSlice) {
	v.Source = origin
	c.Put.EndpointSlices = append(c.Put.EndpointSlices, v)
}

func putPolicies(c *state.Changes, v []model.Policy) {
	for i := range v {
		v[i].Source = origin
	}
	c.Put.Policies = append(c.Put.Policies, v...)
}
