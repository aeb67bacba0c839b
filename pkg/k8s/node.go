// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/model"
)

// The shortest prefixes that a node's pods may have: a shorter one is a slip, and
// would take much of the world for the cluster.
const (
	minPodBits4 = 8
	minPodBits6 = 16
)

// NodeFrom converts a WeftNode.
func NodeFrom(obj *v1alpha1.WeftNode) (model.ClusterNode, field.ErrorList) {
	out := model.ClusterNode{Name: obj.Name}
	errs := nodeName(field.NewPath("metadata", "name"), obj.Name)
	at := field.NewPath("spec")
	for i, s := range obj.Spec.Addresses {
		here := at.Child("addresses").Index(i)
		a, e := convert.HostAddr(here, s)
		if len(e) == 0 && slices.Contains(out.Addrs, a) {
			e = field.ErrorList{field.Duplicate(here, s)}
		}
		out.Addrs, errs = append(out.Addrs, a), append(errs, e...)
	}
	for i, s := range obj.Spec.PodCIDRs {
		here := at.Child("podCIDRs").Index(i)
		p, e := podCIDR(here, s)
		family := func(q netip.Prefix) bool { return q.Addr().Is4() == p.Addr().Is4() }
		if len(e) == 0 && slices.ContainsFunc(out.PodCIDRs, family) {
			e = field.ErrorList{field.Invalid(here, s, "is the second range of its family; a node has one of each")}
		}
		out.PodCIDRs, errs = append(out.PodCIDRs, p), append(errs, e...)
	}
	if len(errs) > 0 {
		return model.ClusterNode{}, errs
	}
	slices.SortFunc(out.PodCIDRs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out, nil
}

func nodeName(at *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "write the node's name")}
	}
	return convert.Invalid(at, name, validation.IsDNS1123Subdomain(name))
}

func podCIDR(at *field.Path, s string) (netip.Prefix, field.ErrorList) {
	bad := func(why string) (netip.Prefix, field.ErrorList) {
		return netip.Prefix{}, field.ErrorList{field.Invalid(at, s, why)}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return bad("must be a range such as 10.244.1.0/24 or fd00:10:244:1::/64")
	}
	if p != p.Masked() {
		return bad(fmt.Sprintf("has bits set after its length; write %s", p.Masked()))
	}
	least := minPodBits6
	if p.Addr().Is4() {
		least = minPodBits4
	}
	if p.Bits() < least {
		return bad(fmt.Sprintf("is wider than /%d", least))
	}
	if _, errs := convert.HostAddr(at, p.Addr().String()); len(errs) > 0 {
		return bad("is not a range of addresses of hosts")
	}
	return p, nil
}

// Outside names the first of a node's pod ranges that is in none of the cluster's, what
// follows and what to do; nil if there is none.
func Outside(ranges, cluster []netip.Prefix) error {
	for _, r := range ranges {
		in := func(c netip.Prefix) bool { return c.Bits() <= r.Bits() && c.Contains(r.Addr()) }
		if !slices.ContainsFunc(cluster, in) {
			return fmt.Errorf("the pod range %s is in none of clusterCIDRs %v: who has not heard of this node yet takes its pods for world; "+
				"set clusterCIDRs so that it holds the range", r, cluster)
		}
	}
	return nil
}

// NodeSpec is the spec of a node's object.
func NodeSpec(n model.ClusterNode) v1alpha1.NodeSpec {
	var out v1alpha1.NodeSpec
	for _, a := range n.Addrs {
		out.Addresses = append(out.Addresses, a.String())
	}
	for _, p := range n.PodCIDRs {
		out.PodCIDRs = append(out.PodCIDRs, p.String())
	}
	return out
}

// NodeOwner makes an object go with a node's WeftNode.
func NodeOwner(n *v1alpha1.WeftNode) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.KindNode, Name: n.Name, UID: n.UID,
	}
}
