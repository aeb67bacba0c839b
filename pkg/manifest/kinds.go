// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/strictyaml"
)

const weftVersion = "weftmesh.io/v1alpha1"

// kind is one kind of object that the folder may hold.
type kind struct {
	version string // apiVersion
	name    string
	decode  func(doc *strictyaml.Document, source string) (Object, []strictyaml.Error)
}

// kinds lists the kinds in the order that messages name them.
func kinds() []kind {
	return []kind{
		{"v1", "Pod", of(convert.Pod, podObject)},
		{"v1", "Namespace", of(convert.Namespace, namespaceObject)},
		{"v1", "Service", of(convert.Service, serviceObject)},
		{"discovery.k8s.io/v1", "EndpointSlice", of(convert.EndpointSlice, sliceObject)},
		{"networking.k8s.io/v1", "NetworkPolicy", of(convert.NetworkPolicy, policyObject)},
		{weftVersion, "WeftNetworkPolicy", of(convert.WeftNetworkPolicy, policyObject)},
		{weftVersion, "WeftClusterNetworkPolicy", of(convert.WeftClusterNetworkPolicy, policyObject)},
	}
}

// of makes a decoder from a converter and what names the converted value.
func of[API, M any](
	conv func(*API) (M, field.ErrorList), object func(M, string) Object,
) func(*strictyaml.Document, string) (Object, []strictyaml.Error) {
	return func(doc *strictyaml.Document, source string) (Object, []strictyaml.Error) {
		var in API
		if errs := doc.Decode(&in); len(errs) > 0 {
			return Object{}, errs
		}
		out, errs := conv(&in)
		return object(out, source), place(doc, errs)
	}
}

func podObject(v model.Pod, source string) Object {
	v.Source = source
	return Object{Key: Key{Namespace: v.Namespace, Name: v.Name}, Value: v}
}

func namespaceObject(v model.Namespace, source string) Object {
	v.Source = source
	return Object{Key: Key{Name: v.Name}, Value: v}
}

func serviceObject(v model.Service, source string) Object {
	v.Source = source
	return Object{Key: Key{Namespace: v.Namespace, Name: v.Name}, Value: v}
}

func sliceObject(v model.EndpointSlice, source string) Object {
	v.Source = source
	return Object{Key: Key{Namespace: v.Namespace, Name: v.Name}, Value: v}
}

// policyObject is one object: some kinds hold several policies in one, and one
// that is faulty none.
func policyObject(v []model.Policy, source string) Object {
	if len(v) == 0 {
		return Object{}
	}
	for i := range v {
		v[i].Source = source
	}
	return Object{Key: Key{Namespace: v[0].Key.Namespace, Name: v[0].Key.Name}, Value: v}
}
