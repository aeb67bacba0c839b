// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// Client reads and writes the kinds that Weft works with; those with a namespace
// are read from all of them. It is safe for concurrent use.
type Client struct {
	Identities      *gentype.ClientWithList[*v1alpha1.WeftIdentity, *v1alpha1.WeftIdentityList]
	Nodes           *gentype.ClientWithList[*v1alpha1.WeftNode, *v1alpha1.WeftNodeList]
	NodeSlices      *gentype.ClientWithList[*v1alpha1.WeftEndpointSlice, *v1alpha1.WeftEndpointSliceList]
	Policies        *gentype.ClientWithList[*v1alpha1.WeftNetworkPolicy, *v1alpha1.WeftNetworkPolicyList]
	ClusterPolicies *gentype.ClientWithList[*v1alpha1.WeftClusterNetworkPolicy, *v1alpha1.WeftClusterNetworkPolicyList]
	Pods            *gentype.ClientWithList[*corev1.Pod, *corev1.PodList]
	Namespaces      *gentype.ClientWithList[*corev1.Namespace, *corev1.NamespaceList]
	Services        *gentype.ClientWithList[*corev1.Service, *corev1.ServiceList]
	EndpointSlices  *gentype.ClientWithList[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList]
	NetworkPolicies *gentype.ClientWithList[*networkingv1.NetworkPolicy, *networkingv1.NetworkPolicyList]
}

// Scheme knows the kinds of Client and no others: all of Kubernetes would take
// megabytes.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("making the scheme: %w", err)
		}
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s, nil
}

// NewClient makes a client; nothing is sent yet.
func NewClient(cfg *rest.Config) (*Client, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	conn, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	b := &builder{cfg: cfg, http: conn, codecs: serializer.NewCodecFactory(scheme), params: runtime.NewParameterCodec(scheme)}
	c := &Client{}
	weft := b.group(v1alpha1.GroupVersion(), "/apis")
	c.Identities = kind[v1alpha1.WeftIdentity, v1alpha1.WeftIdentityList](b, weft, "weftidentities")
	c.Nodes = kind[v1alpha1.WeftNode, v1alpha1.WeftNodeList](b, weft, "weftnodes")
	c.NodeSlices = kind[v1alpha1.WeftEndpointSlice, v1alpha1.WeftEndpointSliceList](b, weft, "weftendpointslices")
	c.Policies = kind[v1alpha1.WeftNetworkPolicy, v1alpha1.WeftNetworkPolicyList](b, weft, "weftnetworkpolicies")
	c.ClusterPolicies = kind[v1alpha1.WeftClusterNetworkPolicy, v1alpha1.WeftClusterNetworkPolicyList](b, weft, "weftclusternetworkpolicies")
	core := b.group(corev1.SchemeGroupVersion, "/api")
	c.Pods = kind[corev1.Pod, corev1.PodList](b, core, "pods")
	c.Namespaces = kind[corev1.Namespace, corev1.NamespaceList](b, core, "namespaces")
	c.Services = kind[corev1.Service, corev1.ServiceList](b, core, "services")
	discovery := b.group(discoveryv1.SchemeGroupVersion, "/apis")
	c.EndpointSlices = kind[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](b, discovery, "endpointslices")
	networking := b.group(networkingv1.SchemeGroupVersion, "/apis")
	c.NetworkPolicies = kind[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList](b, networking, "networkpolicies")
	if b.err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", b.err)
	}
	return c, nil
}
