// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/model"
)

// DefaultServiceAccount is the account of a pod that names none.
const DefaultServiceAccount = "default"

// Pod converts a pod. Source is left to the caller, here and below.
func Pod(in *corev1.Pod) (model.Pod, field.ErrorList) {
	errs := Meta(&in.ObjectMeta, true)
	ports, portErrs := podPorts(&in.Spec)
	errs = append(errs, portErrs...)
	hostPorts, portErrs := hostPorts(&in.Spec)
	errs = append(errs, portErrs...)
	account := cmp.Or(in.Spec.ServiceAccountName, in.Spec.DeprecatedServiceAccount, DefaultServiceAccount)
	errs = append(errs, Invalid(field.NewPath("spec", "serviceAccountName"), account,
		validation.IsDNS1123Subdomain(account))...)
	return model.Pod{
		PodKey:         model.PodKey{Namespace: in.Namespace, Name: in.Name},
		UID:            string(in.UID),
		Labels:         maps.Clone(in.Labels),
		ServiceAccount: account,
		Ports:          ports,
		HostPorts:      hostPorts,
		HostNetwork:    in.Spec.HostNetwork,
		NodeName:       in.Spec.NodeName,
		Workload:       workload(&in.ObjectMeta),
	}, errs
}

// podPorts gathers the named ports of all containers that run beside each
// other; init containers do when they restart always (sidecars).
func podPorts(spec *corev1.PodSpec) ([]model.NamedPort, field.ErrorList) {
	at := field.NewPath("spec")
	var out []model.NamedPort
	var errs field.ErrorList
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		ports, e := containerPorts(at.Child("initContainers").Index(i), c)
		errs = append(errs, e...)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, ports...)
		}
	}
	for i := range spec.Containers {
		ports, e := containerPorts(at.Child("containers").Index(i), &spec.Containers[i])
		errs = append(errs, e...)
		out = append(out, ports...)
	}
	slices.SortFunc(out, func(a, b model.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(out), errs
}

// running lists the containers that run beside each other, with their places.
func running(spec *corev1.PodSpec) iter.Seq2[*field.Path, *corev1.Container] {
	at := field.NewPath("spec")
	return func(yield func(*field.Path, *corev1.Container) bool) {
		for i := range spec.InitContainers {
			c := &spec.InitContainers[i]
			always := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
			if always && !yield(at.Child("initContainers").Index(i), c) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(at.Child("containers").Index(i), &spec.Containers[i]) {
				return
			}
		}
	}
}

// hostPorts gathers the ports of the node that a pod is to have. One in the network
// of the node has them without anybody's doing.
func hostPorts(spec *corev1.PodSpec) (out []model.HostPort, errs field.ErrorList) {
	if spec.HostNetwork {
		return nil, nil
	}
	for at, c := range running(spec) {
		for i, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			hp, e := hostPort(at.Child("ports").Index(i), p)
			if errs = append(errs, e...); len(e) == 0 {
				out = append(out, hp)
			}
		}
	}
	slices.SortFunc(out, func(a, b model.HostPort) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.PodPort, b.PodPort))
	})
	return slices.Compact(out), errs
}

func hostPort(at *field.Path, p corev1.ContainerPort) (out model.HostPort, errs field.ErrorList) {
	var e field.ErrorList
	out.Protocol, _ = Protocol(at.Child("protocol"), p.Protocol) // told with the container's port
	out.PodPort, _ = Port(at.Child("containerPort"), p.ContainerPort)
	out.Port, errs = Port(at.Child("hostPort"), p.HostPort)
	if p.HostIP != "" {
		out.Addr, e = addr(at.Child("hostIP"), p.HostIP)
		errs = append(errs, e...)
	}
	return out, errs
}

// PodAddrs are the addresses of a pod that runs, as the API server knows them.
func PodAddrs(in *corev1.Pod) []netip.Addr {
	if in.Spec.HostNetwork || in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed {
		return nil
	}
	var out []netip.Addr
	for i, ip := range in.Status.PodIPs {
		if a, errs := HostAddr(field.NewPath("status", "podIPs").Index(i), ip.IP); len(errs) == 0 {
			out = append(out, a)
		}
	}
	return out
}

func containerPorts(at *field.Path, c *corev1.Container) ([]model.NamedPort, field.ErrorList) {
	var out []model.NamedPort
	var errs field.ErrorList
	for i, p := range c.Ports {
		here := at.Child("ports").Index(i)
		proto, e := Protocol(here.Child("protocol"), p.Protocol)
		errs = append(errs, e...)
		number, e := Port(here.Child("containerPort"), p.ContainerPort)
		errs = append(errs, e...)
		if p.Name == "" {
			continue
		}
		errs = append(errs, Invalid(here.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
		out = append(out, model.NamedPort{Name: p.Name, Protocol: proto, Port: number})
	}
	return out, errs
}

// Namespace converts a namespace. As an API server does, it adds the label
// that selectors know a namespace's name by.
func Namespace(in *corev1.Namespace) (model.Namespace, field.ErrorList) {
	errs := Meta(&in.ObjectMeta, false)
	at := field.NewPath("metadata")
	errs = append(errs, Invalid(at.Child("name"), in.Name, validation.IsDNS1123Label(in.Name))...)
	if got, ok := in.Labels[corev1.LabelMetadataName]; ok && got != in.Name {
		errs = append(errs, field.Invalid(at.Child("labels").Key(corev1.LabelMetadataName), got,
			"must be the namespace's name; remove the label, it is added by itself"))
	}
	out := ImplicitNamespace(in.Name)
	maps.Copy(out.Labels, in.Labels)
	return out, errs
}

// ImplicitNamespace is a namespace that is in use though no object declares it.
func ImplicitNamespace(name string) model.Namespace {
	return model.Namespace{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}
}
