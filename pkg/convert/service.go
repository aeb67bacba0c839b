// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/model"
)

// Service converts a service.
func Service(in *corev1.Service) (model.Service, field.ErrorList) {
	errs := Meta(&in.ObjectMeta, true)
	spec, at := &in.Spec, field.NewPath("spec")
	out := model.Service{
		ServiceKey:      model.ServiceKey{Namespace: in.Namespace, Name: in.Name},
		Type:            model.ServiceClusterIP,
		InternalLocal:   spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal:   spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		PublishNotReady: spec.PublishNotReadyAddresses,
	}
	switch spec.Type {
	case "":
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName:
		out.Type = model.ServiceType(spec.Type)
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), spec.Type, []corev1.ServiceType{
			corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}))
	}
	var e field.ErrorList
	out.ClusterIPs, e = clusterIPs(at, spec)
	errs = append(errs, e...)
	out.ExternalIPs, e = addrs(at.Child("externalIPs"), spec.ExternalIPs)
	errs = append(errs, e...)
	out.LoadBalancerIPs, e = ingressIPs(&in.Status.LoadBalancer)
	errs = append(errs, e...)
	errs = append(errs, trafficPolicies(at, spec)...)
	out.Affinity, e = affinity(at, spec)
	errs = append(errs, e...)
	out.Ports, e = servicePorts(at.Child("ports"), spec.Ports)
	errs = append(errs, e...)
	if len(spec.Ports) == 0 && len(out.ClusterIPs) > 0 {
		errs = append(errs, field.Required(at.Child("ports"), "a service with an address needs a port"))
	}
	return out, errs
}

func clusterIPs(at *field.Path, spec *corev1.ServiceSpec) ([]netip.Addr, field.ErrorList) {
	in := spec.ClusterIPs
	path := at.Child("clusterIPs")
	switch {
	case len(in) == 0 && spec.ClusterIP == "":
		return nil, nil
	case len(in) == 0:
		if spec.ClusterIP == corev1.ClusterIPNone {
			return nil, nil
		}
		a, errs := HostAddr(at.Child("clusterIP"), spec.ClusterIP)
		return []netip.Addr{a}, errs
	case spec.ClusterIP != "" && spec.ClusterIP != in[0]:
		return nil, field.ErrorList{field.Invalid(path.Index(0), in[0], "must equal clusterIP; remove one of the two")}
	case in[0] == corev1.ClusterIPNone && len(in) == 1:
		return nil, nil
	}
	return addrs(path, in)
}

func ingressIPs(lb *corev1.LoadBalancerStatus) ([]netip.Addr, field.ErrorList) {
	at := field.NewPath("status", "loadBalancer", "ingress")
	var out []netip.Addr
	var errs field.ErrorList
	for i, in := range lb.Ingress {
		if in.IP == "" {
			continue
		}
		a, e := addr(at.Index(i).Child("ip"), in.IP)
		out, errs = append(out, a), append(errs, e...)
	}
	return out, errs
}

func trafficPolicies(at *field.Path, spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	switch p := spec.InternalTrafficPolicy; {
	case p == nil, *p == corev1.ServiceInternalTrafficPolicyCluster, *p == corev1.ServiceInternalTrafficPolicyLocal:
	default:
		errs = append(errs, field.NotSupported(at.Child("internalTrafficPolicy"), *p, []corev1.ServiceInternalTrafficPolicy{
			corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal}))
	}
	switch p := spec.ExternalTrafficPolicy; p {
	case "", corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal:
	default:
		errs = append(errs, field.NotSupported(at.Child("externalTrafficPolicy"), p, []corev1.ServiceExternalTrafficPolicy{
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}))
	}
	return errs
}

// affinity is the time-out of client affinity; the API's default is 3 hours.
func affinity(at *field.Path, spec *corev1.ServiceSpec) (time.Duration, field.ErrorList) {
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone, "":
		return 0, nil
	case corev1.ServiceAffinityClientIP:
	default:
		return 0, field.ErrorList{field.NotSupported(at.Child("sessionAffinity"), spec.SessionAffinity,
			[]corev1.ServiceAffinity{corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP})}
	}
	seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	const most = 86400
	if seconds < 1 || seconds > most {
		return 0, field.ErrorList{field.Invalid(at.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"),
			seconds, fmt.Sprintf("must be from 1 to %d seconds", most))}
	}
	return time.Duration(seconds) * time.Second, nil
}

func servicePorts(at *field.Path, in []corev1.ServicePort) ([]model.ServicePort, field.ErrorList) {
	var out []model.ServicePort
	var errs field.ErrorList
	names := make(map[string]bool, len(in))
	numbers := make(map[[2]uint16]bool, len(in))
	for i := range in {
		here := at.Index(i)
		p, e := servicePort(here, &in[i])
		errs = append(errs, e...)
		if p.Name == "" && len(in) > 1 {
			errs = append(errs, field.Required(here.Child("name"), "a service with several ports names each of them"))
		} else if names[p.Name] {
			errs = append(errs, field.Duplicate(here.Child("name"), p.Name))
		}
		number := [2]uint16{uint16(p.Protocol), p.Port}
		if numbers[number] && p.Port != 0 {
			errs = append(errs, field.Duplicate(here.Child("port"), p.Port))
		}
		names[p.Name], numbers[number] = true, true
		out = append(out, p)
	}
	return out, errs
}

func servicePort(at *field.Path, in *corev1.ServicePort) (model.ServicePort, field.ErrorList) {
	out := model.ServicePort{Name: in.Name}
	var errs, e field.ErrorList
	out.Protocol, errs = Protocol(at.Child("protocol"), in.Protocol)
	out.Port, e = Port(at.Child("port"), in.Port)
	errs = append(errs, e...)
	if in.Name != "" {
		errs = append(errs, Invalid(at.Child("name"), in.Name, validation.IsDNS1123Label(in.Name))...)
	}
	switch target := in.TargetPort; {
	case target.Type == intstr.String && target.StrVal != "":
		out.TargetName = target.StrVal
		errs = append(errs, Invalid(at.Child("targetPort"), out.TargetName, validation.IsValidPortName(out.TargetName))...)
	case target.Type == intstr.Int && target.IntVal != 0:
		out.TargetPort, e = Port(at.Child("targetPort"), target.IntVal)
		errs = append(errs, e...)
	default:
		out.TargetPort = out.Port
	}
	if in.NodePort != 0 {
		out.NodePort, e = Port(at.Child("nodePort"), in.NodePort)
		errs = append(errs, e...)
	}
	return out, errs
}
