// SPDX-License-Identifier: Apache-2.0

// Package convert turns Kubernetes objects into model types. Its functions are
// pure; both sources, the API server and the manifest folder, use them. They
// check what an API server would have checked and what the datapath relies on,
// because a manifest meets no API server.
package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/model"
)

// DefaultNamespace is where an object is that names no namespace.
const DefaultNamespace = "default"

// Meta checks an object's name, namespace and labels. An object of a
// namespaced kind that names no namespace is put into the default one.
func Meta(m *metav1.ObjectMeta, namespaced bool) field.ErrorList {
	at := field.NewPath("metadata")
	var errs field.ErrorList
	if m.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "give the object a name"))
	} else {
		errs = append(errs, Invalid(at.Child("name"), m.Name, validation.IsDNS1123Subdomain(m.Name))...)
	}
	switch {
	case !namespaced && m.Namespace != "":
		errs = append(errs, field.Invalid(at.Child("namespace"), m.Namespace,
			"this kind is cluster-wide; remove the namespace"))
	case namespaced && m.Namespace == "":
		m.Namespace = DefaultNamespace
	case namespaced:
		errs = append(errs, Invalid(at.Child("namespace"), m.Namespace, validation.IsDNS1123Label(m.Namespace))...)
	}
	return append(errs, checkLabels(at.Child("labels"), m.Labels)...)
}

func checkLabels(at *field.Path, labels map[string]string) field.ErrorList {
	var errs field.ErrorList
	for _, k := range sortedKeys(labels) {
		errs = append(errs, Invalid(at.Key(k), k, validation.IsQualifiedName(k))...)
		errs = append(errs, Invalid(at.Key(k), labels[k], validation.IsValidLabelValue(labels[k]))...)
	}
	return errs
}

// Invalid is the fault of a value for which a check has messages; none: no fault.
func Invalid(at *field.Path, value string, msgs []string) field.ErrorList {
	if len(msgs) == 0 {
		return nil
	}
	text := strings.Join(msgs, "; ")
	if before, _, ok := strings.Cut(text, ", regex used for validation is "); ok {
		text = before + ")" // the examples say it better
	}
	return field.ErrorList{field.Invalid(at, value, text)}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Protocol is the number of a protocol that ports have; empty is TCP.
func Protocol(at *field.Path, p corev1.Protocol) (uint8, field.ErrorList) {
	switch p {
	case corev1.ProtocolTCP, "":
		return model.ProtoTCP, nil
	case corev1.ProtocolUDP:
		return model.ProtoUDP, nil
	case corev1.ProtocolSCTP:
		return model.ProtoSCTP, nil
	}
	return 0, field.ErrorList{field.NotSupported(at, p,
		[]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP})}
}

func Port(at *field.Path, n int32) (uint16, field.ErrorList) {
	if n < 1 || n > 65535 {
		return 0, field.ErrorList{field.Invalid(at, n, "must be a port from 1 to 65535")}
	}
	return uint16(n), nil
}

func addr(at *field.Path, s string) (netip.Addr, field.ErrorList) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, field.ErrorList{field.Invalid(at, s, "must be an IPv4 or IPv6 address")}
	}
	return a.Unmap(), nil
}

// HostAddr reads the address of one host that others can reach. A service or backend
// with another one would take over calls that are not its own, or lead callers to what
// each of them has for itself.
func HostAddr(at *field.Path, s string) (netip.Addr, field.ErrorList) {
	a, errs := addr(at, s)
	if len(errs) == 0 && (a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		errs = field.ErrorList{field.Invalid(at, s, "must be an address of one host: not an unspecified, loopback, link-local, multicast or broadcast one")}
	}
	return a, errs
}

// addrs reads a list of addresses of hosts.
func addrs(at *field.Path, in []string) ([]netip.Addr, field.ErrorList) {
	var out []netip.Addr
	var errs field.ErrorList
	for i, s := range in {
		a, e := HostAddr(at.Index(i), s)
		if errs = append(errs, e...); len(e) > 0 {
			continue
		}
		if slices.Contains(out, a) {
			errs = append(errs, field.Invalid(at.Index(i), s, fmt.Sprintf("%s is in the list twice; remove one", a)))
			continue
		}
		out = append(out, a)
	}
	return out, errs
}
