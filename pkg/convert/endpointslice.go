// SPDX-License-Identifier: Apache-2.0

package convert

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/model"
)

// EndpointSlice converts an endpoint slice. Slices of names instead of
// addresses (addressType FQDN) have nothing to balance and are refused.
func EndpointSlice(in *discoveryv1.EndpointSlice) (model.EndpointSlice, field.ErrorList) {
	errs := Meta(&in.ObjectMeta, true)
	out := model.EndpointSlice{
		EndpointSliceKey: model.EndpointSliceKey{Namespace: in.Namespace, Name: in.Name},
	}
	if name := in.Labels[discoveryv1.LabelServiceName]; name != "" {
		out.Service = model.ServiceKey{Namespace: in.Namespace, Name: name}
	}
	switch in.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	case "":
		errs = append(errs, field.Required(field.NewPath("addressType"), "write IPv4 or IPv6"))
	default:
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), in.AddressType,
			[]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}))
	}
	for i := range in.Ports {
		p, e := endpointPort(field.NewPath("ports").Index(i), &in.Ports[i])
		out.Ports, errs = append(out.Ports, p), append(errs, e...)
	}
	for i := range in.Endpoints {
		b, e := backend(field.NewPath("endpoints").Index(i), &in.Endpoints[i], in.AddressType)
		out.Backends, errs = append(out.Backends, b), append(errs, e...)
		if b.Pod.Name != "" && b.Pod.Namespace == "" {
			out.Backends[i].Pod.Namespace = in.Namespace
		}
	}
	return out, errs
}

func endpointPort(at *field.Path, in *discoveryv1.EndpointPort) (model.EndpointPort, field.ErrorList) {
	var out model.EndpointPort
	if in.Name != nil {
		out.Name = *in.Name
	}
	var proto corev1.Protocol
	if in.Protocol != nil {
		proto = *in.Protocol
	}
	var errs, e field.ErrorList
	out.Protocol, errs = Protocol(at.Child("protocol"), proto)
	if in.Port == nil {
		return out, append(errs, field.Required(at.Child("port"), "write the port's number"))
	}
	out.Port, e = Port(at.Child("port"), *in.Port)
	return out, append(errs, e...)
}

func backend(at *field.Path, in *discoveryv1.Endpoint, want discoveryv1.AddressType) (model.Backend, field.ErrorList) {
	out := model.Backend{
		// What a condition leaves out means, as the API defines: ready yes,
		// serving as ready, terminating no.
		Ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		Terminating: in.Conditions.Terminating != nil && *in.Conditions.Terminating,
	}
	out.Serving = out.Ready
	if in.Conditions.Serving != nil {
		out.Serving = *in.Conditions.Serving
	}
	if in.NodeName != nil {
		out.NodeName = *in.NodeName
	}
	if in.Zone != nil {
		out.Zone = *in.Zone
	}
	if in.Hints != nil {
		for _, z := range in.Hints.ForZones {
			out.ForZones = append(out.ForZones, z.Name)
		}
	}
	if ref := in.TargetRef; ref != nil && ref.Kind == "Pod" {
		out.Pod = model.PodKey{Namespace: ref.Namespace, Name: ref.Name}
	}
	if len(in.Addresses) == 0 {
		return out, field.ErrorList{field.Required(at.Child("addresses"), "give the endpoint an address")}
	}
	// All addresses of an endpoint are interchangeable by definition; the first
	// one is used.
	path := at.Child("addresses").Index(0)
	a, errs := HostAddr(path, in.Addresses[0])
	if out.Addr = a; len(errs) == 0 && a.Is4() != (want == discoveryv1.AddressTypeIPv4) {
		errs = append(errs, field.Invalid(path, in.Addresses[0], "must be an address of the slice's addressType"))
	}
	return out, errs
}
