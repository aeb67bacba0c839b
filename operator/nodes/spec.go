// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftmesh/weft/operator/ranges"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// choice is the ranges that a node's pods get their addresses from.
type choice struct {
	ranges  []netip.Prefix
	problem error // ranges are what they can be nonetheless
}

// choose decides on a node's ranges, and notes them in the pool. What a running
// node has used stays: its pods have addresses from it. Otherwise they are those
// of the Node, if something else divides the cluster's ranges, or blocks of the
// pool.
func choose(pool *ranges.Pool, node *corev1.Node, now *v1alpha1.WeftNode, named func(netip.Prefix) bool) choice {
	given, err := parse(node.Spec.PodCIDRs)
	if err != nil {
		return choice{problem: fmt.Errorf("spec.podCIDRs of the Node: %w", err)}
	}
	has, err := parse(now.Spec.PodCIDRs)
	if err != nil && used(now) {
		return choice{problem: fmt.Errorf("spec.podCIDRs of WeftNode %s: %w; write what the agent had before", node.Name, err)}
	}
	if used(now) && len(has) > 0 {
		return keep(pool, node.Name, has, given)
	}
	if len(given) > 0 {
		if err := pool.Adopt(node.Name, given); err != nil {
			return choice{problem: fmt.Errorf("spec.podCIDRs of the Node: %w; give the Node a range of its own", err)}
		}
		return choice{ranges: given}
	}
	if len(has) > 0 && pool.Adopt(node.Name, has) != nil {
		pool.Release(node.Name) // another node has a part of it, and this one has not begun
	}
	got, err := pool.Assign(node.Name, named)
	if err != nil {
		return choice{ranges: pool.Of(node.Name), problem: err}
	}
	return choice{ranges: got}
}

// keep leaves a node what it has.
func keep(pool *ranges.Pool, name string, has, given []netip.Prefix) choice {
	out := choice{ranges: has}
	if err := pool.Adopt(name, has); err != nil {
		out.problem = fmt.Errorf("spec.podCIDRs of WeftNode %s: %w; drain one of the two nodes, and delete its WeftNode", name, err)
		return out
	}
	if len(given) > 0 && !slices.Equal(given, has) {
		out.problem = fmt.Errorf("the Node has podCIDRs %v, its pods have addresses from %v, which stays; "+
			"to change it, drain the node and delete its WeftNode", given, has)
	}
	return out
}

// used tells whether the node's agent has ever reported.
func used(n *v1alpha1.WeftNode) bool {
	return n.Status.AgentVersion != "" || len(n.Status.Conditions) > 0
}

func parse(in []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not a range, such as 10.244.1.0/24", s)
		case p != p.Masked() || p.Addr().Is4In6():
			return nil, fmt.Errorf("%q is not a range; its address has bits set after its length", s)
		case slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }):
			return nil, errors.New("has two ranges of one family")
		}
		out = append(out, p)
	}
	return out, nil
}

func texts(in []netip.Prefix) []string {
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = p.String()
	}
	return out
}

// addresses are a Node's, by which other nodes reach it, in the Node's order.
func addresses(node *corev1.Node) []string {
	var out []string
	for _, a := range node.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || addr.Zone() != "" || !addr.Unmap().IsGlobalUnicast() {
			continue
		}
		if s := addr.Unmap().String(); !slices.Contains(out, s) && len(out) < maxAddresses {
			out = append(out, s)
		}
	}
	return out
}

// maxAddresses is what a WeftNode holds.
const maxAddresses = 16
