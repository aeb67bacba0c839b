// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// faultOf is what is said about a faulty object, or "".
func faultOf(kind, name string, errs field.ErrorList) string {
	if f := NewFault(kind, "", name, errs); f != nil {
		return f.Error()
	}
	return ""
}

func TestIdentityFrom(t *testing.T) {
	good := []string{"k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web", "k8s:bare"}
	for _, c := range []struct {
		name   string
		labels []string
		fault  string
	}{
		{"300", good, ""},
		{"255", good, "WeftIdentity 255: metadata.name: "},
		{"16777216", good, "from 256 to 16777215"},
		{"0300", good, "metadata.name"},
		{"+300", good, "metadata.name"},
		{"99999999999999999999", good, "metadata.name"},
		{"300", nil, "securityLabels: required"},
		{"300", []string{"k8s:app=web", "k8s:app=db"}, "securityLabels[1]: duplicate"},
		{"300", []string{"reserved:host"}, "must begin with k8s:"},
		{"300", []string{"app=web"}, "must begin with k8s:"},
		{"300", []string{"k8s:=web"}, "must have a key"},
		{"300", []string{"k8s:app=web db"}, "must not hold spaces"},
		{"1", []string{"x"}, "(and 1 more)"},
	} {
		got, errs := IdentityFrom(&v1alpha1.WeftIdentity{ObjectMeta: named(c.name), SecurityLabels: c.labels})
		if fault := faultOf("WeftIdentity", c.name, errs); (fault == "") != (c.fault == "") || !strings.Contains(fault, c.fault) {
			t.Errorf("%s %v: fault %q, want %q", c.name, c.labels, fault, c.fault)
		}
		if c.fault == "" && (got.ID != 300 || strings.Join(got.Labels.Strings(), " ") != "k8s:app=web k8s:bare k8s:io.kubernetes.pod.namespace=shop") {
			t.Errorf("got %+v", got)
		}
	}
}

func TestIdentityToAndBack(t *testing.T) {
	id := model.Identity{ID: 4711, Labels: model.NewLabels(
		model.Label{Source: "k8s", Key: "app", Value: "web"},
		model.Label{Source: "k8s", Key: model.LabelNamespace, Value: "shop"})}
	obj := IdentityTo(id)
	if obj.Name != "4711" || obj.Labels[v1alpha1.LabelIdentityNamespace] != "shop" {
		t.Errorf("the object is %+v", obj.ObjectMeta)
	}
	if back, errs := IdentityFrom(obj); len(errs) > 0 || !reflect.DeepEqual(back, id) {
		t.Errorf("came back as %+v, %v", back, errs)
	}
}

func TestNodeFrom(t *testing.T) {
	for _, c := range []struct {
		name         string
		addrs, cidrs []string
		fault        string
	}{
		{"node-1", []string{"192.0.2.1", "2001:db8::1"}, []string{"10.244.1.0/24", "fd00:10:244:1::/64"}, ""},
		{"", nil, nil, "metadata.name"},
		{"node-1", []string{"192.0.2.300"}, nil, "WeftNode node-1: spec.addresses[0]: "},
		{"node-1", []string{"127.0.0.1"}, nil, "spec.addresses[0]"},
		{"node-1", []string{"fe80::1%eth0"}, nil, "spec.addresses[0]"},
		{"node-1", []string{"192.0.2.1", "::ffff:192.0.2.1"}, nil, "spec.addresses[1]: duplicate"},
		{"node-1", nil, []string{"10.244.1.1/24"}, "write 10.244.1.0/24"},
		{"node-1", nil, []string{"10.244.1.0"}, "must be a range"},
		{"node-1", nil, []string{"0.0.0.0/0"}, "wider than /8"},
		{"node-1", nil, []string{"::/0"}, "wider than /16"},
		{"node-1", nil, []string{"224.0.0.0/24"}, "not a range of addresses of hosts"},
		{"node-1", nil, []string{"10.244.1.0/24", "10.244.2.0/24"}, "spec.podCIDRs[1]: invalid value: \"10.244.2.0/24\": is the second"},
	} {
		obj := &v1alpha1.WeftNode{ObjectMeta: named(c.name), Spec: v1alpha1.NodeSpec{Addresses: c.addrs, PodCIDRs: c.cidrs}}
		got, errs := NodeFrom(obj)
		if fault := faultOf("WeftNode", c.name, errs); (fault == "") != (c.fault == "") || !strings.Contains(fault, c.fault) {
			t.Errorf("%v %v: fault %q, want %q", c.addrs, c.cidrs, fault, c.fault)
		}
		if c.fault == "" && !reflect.DeepEqual(NodeSpec(got), obj.Spec) {
			t.Errorf("%+v became %+v", obj.Spec, got)
		}
	}
}

func goodEndpoint() v1alpha1.SliceEndpoint {
	return v1alpha1.SliceEndpoint{Namespace: "shop", Name: "web-0", Identity: 300, Addresses: []string{"10.244.1.7", "fd00:10:244:1::7"},
		Ports:    []v1alpha1.SlicePort{{Name: "http", Protocol: "TCP", Port: 8080}},
		Workload: &v1alpha1.Workload{Kind: "StatefulSet", Name: "web"}}
}

func TestSliceFrom(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*v1alpha1.WeftEndpointSlice)
		fault  string
	}{
		"good":            {func(*v1alpha1.WeftEndpointSlice) {}, ""},
		"empty":           {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints = nil }, ""},
		"no node":         {func(s *v1alpha1.WeftEndpointSlice) { s.NodeName = "" }, "WeftEndpointSlice node-1-a: nodeName: required"},
		"no namespace":    {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Namespace = "" }, "endpoints[0].namespace"},
		"no name":         {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Name = "A" }, "endpoints[0].name"},
		"reserved":        {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Identity = 1 }, "endpoints[0].identity"},
		"negative":        {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Identity = -1 }, "endpoints[0].identity"},
		"beyond 32 bits":  {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Identity = 1<<32 + 300 }, "endpoints[0].identity"},
		"node-local":      {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Identity = 1 << 24 }, "endpoints[0].identity"},
		"no address":      {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Addresses = nil }, "endpoints[0].addresses: required"},
		"bad address":     {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Addresses[0] = "10.0.0.300" }, "endpoints[0].addresses[0]"},
		"multicast":       {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Addresses[0] = "224.0.0.1" }, "endpoints[0].addresses[0]"},
		"two of a family": {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Addresses[1] = "10.244.1.8" }, "endpoints[0].addresses[1]"},
		"port 0":          {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Ports[0].Port = 0 }, "endpoints[0].ports[0].port"},
		"port 65536":      {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Ports[0].Port = 65536 }, "endpoints[0].ports[0].port"},
		"protocol":        {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Ports[0].Protocol = "" }, "endpoints[0].ports[0].protocol"},
		"workload":        {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints[0].Workload.Name = "" }, "endpoints[0].workload"},
		"pod twice":       {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints = append(s.Endpoints, s.Endpoints[0]) }, "endpoints[1]: duplicate"},
		"too many":        {func(s *v1alpha1.WeftEndpointSlice) { s.Endpoints = make([]v1alpha1.SliceEndpoint, 33) }, "endpoints: too many"},
	} {
		obj := &v1alpha1.WeftEndpointSlice{ObjectMeta: named("node-1-a"), NodeName: "node-1", Endpoints: []v1alpha1.SliceEndpoint{goodEndpoint()}}
		c.change(obj)
		got, errs := SliceFrom(obj)
		if fault := faultOf("WeftEndpointSlice", obj.Name, errs); (fault == "") != (c.fault == "") || !strings.Contains(fault, c.fault) {
			t.Errorf("%s: fault %q, want %q", what, fault, c.fault)
		}
		if back := SliceTo(got, metav1.OwnerReference{}); c.fault == "" && !reflect.DeepEqual(back.Endpoints, obj.Endpoints) {
			t.Errorf("%s: came back as %+v", what, back.Endpoints)
		}
	}
}

// A slice of any bytes gives a fault or a slice that comes back as itself.
func FuzzSlice(f *testing.F) {
	seed, err := json.Marshal(v1alpha1.WeftEndpointSlice{ObjectMeta: named("n-a"), NodeName: "n", Endpoints: []v1alpha1.SliceEndpoint{goodEndpoint()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"metadata":{"name":"n-a"},"nodeName":"n","endpoints":[{"namespace":"a","name":"b","identity":4294967552,"addresses":["::ffff:10.0.0.1"]}]}`))
	f.Add([]byte(`{"endpoints":[{"ports":[{"port":-1}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var obj v1alpha1.WeftEndpointSlice
		if json.Unmarshal(data, &obj) != nil {
			return
		}
		got, errs := SliceFrom(&obj)
		if len(errs) > 0 {
			return
		}
		for _, e := range got.Endpoints {
			if !e.Identity.IsCluster() || !e.IPv4.IsValid() && !e.IPv6.IsValid() || e.IPv4.IsValid() && !e.IPv4.Is4() {
				t.Fatalf("let pass: %+v", e)
			}
		}
		back, errs := SliceFrom(SliceTo(got, metav1.OwnerReference{}))
		if len(errs) > 0 || !reflect.DeepEqual(back, got) {
			t.Fatalf("%+v came back as %+v, %v", got, back, errs)
		}
	})
}

func FuzzNode(f *testing.F) {
	f.Add("node-1", "192.0.2.1", "10.244.1.0/24")
	f.Add("n", "fe80::1%lo", "::ffff:10.0.0.0/104")
	f.Fuzz(func(t *testing.T, name, addr, cidr string) {
		got, errs := NodeFrom(&v1alpha1.WeftNode{ObjectMeta: named(name),
			Spec: v1alpha1.NodeSpec{Addresses: []string{addr}, PodCIDRs: []string{cidr}}})
		if len(errs) > 0 {
			return
		}
		if p := got.PodCIDRs[0]; p.Bits() < minPodBits4 || p != p.Masked() || got.Addrs[0].Is4In6() || p.Contains(netip.IPv4Unspecified()) {
			t.Fatalf("let pass: %+v", got)
		}
		back, errs := NodeFrom(&v1alpha1.WeftNode{ObjectMeta: named(name), Spec: NodeSpec(got)})
		if len(errs) > 0 || !reflect.DeepEqual(back, got) {
			t.Fatalf("%+v came back as %+v, %v", got, back, errs)
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add("300", "k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")
	f.Add("256", "k8s:a", "k8s:b=")
	f.Add("16777215", "reserved:host", "")
	f.Fuzz(func(t *testing.T, name, a, b string) {
		got, errs := IdentityFrom(&v1alpha1.WeftIdentity{ObjectMeta: named(name), SecurityLabels: []string{a, b}})
		if len(errs) > 0 {
			return
		}
		if !got.ID.IsCluster() || len(got.Labels) != 2 {
			t.Fatalf("let pass: %+v", got)
		}
		back, errs := IdentityFrom(IdentityTo(got))
		if len(errs) > 0 || !reflect.DeepEqual(back, got) {
			t.Fatalf("%+v came back as %+v, %v", got, back, errs)
		}
	})
}
