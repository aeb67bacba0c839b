// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/model"
)

// maxSlicePorts is how many named ports an endpoint of a slice has at most.
const maxSlicePorts = 16

// SliceFrom converts a WeftEndpointSlice.
func SliceFrom(obj *v1alpha1.WeftEndpointSlice) (model.NodeSlice, field.ErrorList) {
	errs := nodeName(field.NewPath("nodeName"), obj.NodeName)
	out := model.NodeSlice{Name: obj.Name, Node: obj.NodeName}
	at := field.NewPath("endpoints")
	if n := len(obj.Endpoints); n > v1alpha1.MaxSliceEndpoints {
		return model.NodeSlice{}, append(errs, field.TooMany(at, n, v1alpha1.MaxSliceEndpoints))
	}
	seen := make(map[model.PodKey]bool, len(obj.Endpoints))
	for i := range obj.Endpoints {
		ep, e := sliceEndpoint(at.Index(i), &obj.Endpoints[i])
		if len(e) == 0 && seen[ep.Pod] {
			e = field.ErrorList{field.Duplicate(at.Index(i), ep.Pod.String())}
		}
		seen[ep.Pod] = true
		out.Endpoints, errs = append(out.Endpoints, ep), append(errs, e...)
	}
	if len(errs) > 0 {
		return model.NodeSlice{}, errs
	}
	sortEndpoints(out.Endpoints)
	return out, nil
}

func sortEndpoints(all []model.NodeEndpoint) {
	slices.SortFunc(all, func(a, b model.NodeEndpoint) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name))
	})
}

func sliceEndpoint(at *field.Path, in *v1alpha1.SliceEndpoint) (model.NodeEndpoint, field.ErrorList) {
	out := model.NodeEndpoint{Pod: model.PodKey{Namespace: in.Namespace, Name: in.Name}, Identity: model.IdentityID(in.Identity)}
	errs := convert.Invalid(at.Child("namespace"), in.Namespace, validation.IsDNS1123Label(in.Namespace))
	errs = append(errs, convert.Invalid(at.Child("name"), in.Name, validation.IsDNS1123Subdomain(in.Name))...)
	if !out.Identity.IsCluster() && out.Identity != model.IdentityUnmanaged || in.Identity != int64(out.Identity) {
		errs = append(errs, field.Invalid(at.Child("identity"), in.Identity, fmt.Sprintf(
			"must be from %d to %d, or %d (not attached)", model.MinClusterIdentity, model.MinLocalIdentity-1, model.IdentityUnmanaged)))
	}
	errs = append(errs, sliceAddrs(at.Child("addresses"), in.Addresses, &out)...)
	ports, e := slicePorts(at.Child("ports"), in.Ports)
	out.Ports, errs = ports, append(errs, e...)
	if w := in.Workload; w != nil {
		out.Workload = model.Workload{Kind: w.Kind, Name: w.Name}
		if w.Kind == "" || w.Name == "" {
			errs = append(errs, field.Required(at.Child("workload"), "write kind and name"))
		}
	}
	return out, errs
}

func sliceAddrs(at *field.Path, in []string, out *model.NodeEndpoint) (errs field.ErrorList) {
	if len(in) == 0 {
		return field.ErrorList{field.Required(at, "an endpoint has an address")}
	}
	for i, s := range in {
		a, e := convert.HostAddr(at.Index(i), s)
		if errs = append(errs, e...); len(e) > 0 {
			continue
		}
		to := &out.IPv6
		if a.Is4() {
			to = &out.IPv4
		}
		if to.IsValid() {
			errs = append(errs, field.Invalid(at.Index(i), s, "is the second address of its family; an endpoint has one of each"))
		}
		*to = a
	}
	return errs
}

func slicePorts(at *field.Path, in []v1alpha1.SlicePort) ([]model.NamedPort, field.ErrorList) {
	if len(in) > maxSlicePorts {
		return nil, field.ErrorList{field.TooMany(at, len(in), maxSlicePorts)}
	}
	var out []model.NamedPort
	var errs field.ErrorList
	for i, p := range in {
		here := at.Index(i)
		errs = append(errs, convert.Invalid(here.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
		if p.Protocol == "" {
			errs = append(errs, field.Required(here.Child("protocol"), "write TCP, UDP or SCTP"))
		}
		proto, e := convert.Protocol(here.Child("protocol"), corev1.Protocol(p.Protocol))
		errs = append(errs, e...)
		number, e := convert.Port(here.Child("port"), p.Port)
		errs = append(errs, e...)
		out = append(out, model.NamedPort{Name: p.Name, Protocol: proto, Port: number})
	}
	slices.SortFunc(out, func(a, b model.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(out), errs
}

// SliceTo makes the object of a slice; owner is the node's WeftNode. What an object
// has no room for is left out: ports beyond the sixteenth.
func SliceTo(s model.NodeSlice, owner metav1.OwnerReference) *v1alpha1.WeftEndpointSlice {
	out := &v1alpha1.WeftEndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, OwnerReferences: []metav1.OwnerReference{owner}},
		NodeName:   s.Node,
	}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointTo(e))
	}
	return out
}

func endpointTo(e model.NodeEndpoint) v1alpha1.SliceEndpoint {
	out := v1alpha1.SliceEndpoint{Namespace: e.Pod.Namespace, Name: e.Pod.Name, Identity: int64(e.Identity)}
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out.Addresses = append(out.Addresses, a.String())
		}
	}
	for _, p := range e.Ports[:min(len(e.Ports), maxSlicePorts)] {
		out.Ports = append(out.Ports, v1alpha1.SlicePort{Name: p.Name, Protocol: protocolName(p.Protocol), Port: int32(p.Port)})
	}
	if e.Workload != (model.Workload{}) {
		out.Workload = &v1alpha1.Workload{Kind: e.Workload.Kind, Name: e.Workload.Name}
	}
	return out
}

func protocolName(p uint8) string {
	switch p {
	case model.ProtoUDP:
		return string(corev1.ProtocolUDP)
	case model.ProtoSCTP:
		return string(corev1.ProtocolSCTP)
	}
	return string(corev1.ProtocolTCP)
}
