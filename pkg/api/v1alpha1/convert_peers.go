// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// peerLists are the lists of a rule that name peers, with the fields' names.
type peerLists struct {
	endpoints []metav1.LabelSelector
	entities  []Entity
	cidr      []CIDR
	cidrSet   []CIDRRule
	prefix    string // from or to
	ports     bool   // toPorts or icmps has items
}

func (c *converter) ingressPeers(path string, r *IngressPeers, ports bool) []model.Peer {
	c.refuse(path, "fromRequires", r.FromRequires != nil)
	c.refuse(path, "fromNodes", r.FromNodes != nil)
	c.refuse(path, "fromGroups", r.FromGroups != nil)
	return c.peers(path, peerLists{r.FromEndpoints, r.FromEntities, r.FromCIDR, r.FromCIDRSet, "from", ports})
}

func (c *converter) egressPeers(path string, r *EgressPeers, ports bool) []model.Peer {
	c.refuse(path, "toRequires", r.ToRequires != nil)
	c.refuse(path, "toNodes", r.ToNodes != nil)
	c.refuse(path, "toGroups", r.ToGroups != nil)
	c.refuse(path, "toServices", r.ToServices != nil)
	return c.peers(path, peerLists{r.ToEndpoints, r.ToEntities, r.ToCIDR, r.ToCIDRSet, "to", ports})
}

// peers converts a rule's lists of peers. An absent list says nothing; one that
// is there and empty selects nobody. With no list at all everybody is meant,
// but only of a rule that names ports: the empty rule matches nothing, and is
// the way to ask for default deny.
func (c *converter) peers(path string, l peerLists) []model.Peer {
	counts := []struct {
		field string
		n     int
		there bool
	}{
		{l.prefix + "Endpoints", len(l.endpoints), l.endpoints != nil},
		{l.prefix + "Entities", len(l.entities), l.entities != nil},
		{l.prefix + "CIDR", len(l.cidr), l.cidr != nil},
		{l.prefix + "CIDRSet", len(l.cidrSet), l.cidrSet != nil},
	}
	var there, empty bool
	used := []string{}
	for _, f := range counts {
		there = there || f.there
		empty = empty || f.there && f.n == 0
		if f.n > 0 {
			used = append(used, f.field)
		}
	}
	if len(used) > 1 {
		c.p.add(path, "combines %s; write a rule for each", strings.Join(used, " and "))
	}
	if !there && l.ports {
		return []model.Peer{{Any: true}}
	}
	out := c.peerItems(path, l)
	if empty {
		return nil
	}
	return out
}

func (c *converter) peerItems(path string, l peerLists) []model.Peer {
	var out []model.Peer
	for i := range l.endpoints {
		sel := c.peerSelector(fmt.Sprintf("%s.%sEndpoints[%d]", path, l.prefix, i), &l.endpoints[i])
		out = append(out, model.Peer{Selector: &sel})
	}
	for i, e := range l.entities {
		at := fmt.Sprintf("%s.%sEntities[%d]", path, l.prefix, i)
		if !knownEntity(e) {
			c.p.add(at, "entity %q is unknown; use one of %s", e, strings.Join(entities(), ", "))
			continue
		}
		out = append(out, model.Peer{Entity: string(e)})
	}
	for i, s := range l.cidr {
		if pre, ok := c.prefix(fmt.Sprintf("%s.%sCIDR[%d]", path, l.prefix, i), s, true); ok {
			out = append(out, model.Peer{CIDR: pre})
		}
	}
	for i := range l.cidrSet {
		if peer, ok := c.cidrRule(fmt.Sprintf("%s.%sCIDRSet[%d]", path, l.prefix, i), &l.cidrSet[i]); ok {
			out = append(out, peer)
		}
	}
	return out
}

// entities are the names that from- and toEntities accept.
func entities() []string {
	return []string{"all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node",
		"kube-apiserver", "ingress", "health", "unmanaged", "init", "none"}
}

func knownEntity(e Entity) bool {
	for _, name := range entities() {
		if string(e) == name {
			return true
		}
	}
	return false
}

func (c *converter) cidrRule(path string, r *CIDRRule) (model.Peer, bool) {
	c.refuse(path, "cidrGroupRef", r.CIDRGroupRef != "")
	c.refuse(path, "cidrGroupSelector", r.CIDRGroupSelector != nil)
	if r.CIDR == "" {
		if r.CIDRGroupRef == "" && r.CIDRGroupSelector == nil {
			c.p.add(path+".cidr", "is missing; write a prefix such as 10.0.0.0/8")
		}
		return model.Peer{}, false
	}
	pre, ok := c.prefix(path+".cidr", r.CIDR, false)
	if !ok {
		return model.Peer{}, false
	}
	peer := model.Peer{CIDR: pre}
	for i, e := range r.Except {
		at := fmt.Sprintf("%s.except[%d]", path, i)
		ex, ok := c.prefix(at, e, false)
		switch {
		case !ok:
		case ex.Bits() < pre.Bits() || !pre.Contains(ex.Addr()):
			c.p.add(at, "%s is not inside %s; name a prefix that is, or remove it", e, r.CIDR)
		default:
			peer.Except = append(peer.Except, ex)
		}
	}
	return peer, true
}

// prefix reads a prefix, without the bits behind its length; with addr an
// address stands for itself alone.
func (c *converter) prefix(path string, s CIDR, addr bool) (netip.Prefix, bool) {
	pre, err := ParseCIDR(string(s), addr)
	if err != nil {
		c.p.add(path, "%v", err)
		return netip.Prefix{}, false
	}
	return pre, true
}

// ParseCIDR reads a prefix as policies write it, with the bits behind its
// length cleared; with addr an address stands for itself alone.
func ParseCIDR(s string, addr bool) (netip.Prefix, error) {
	pre, err := netip.ParsePrefix(s)
	if a, e := netip.ParseAddr(s); err != nil && addr && e == nil && a.Zone() == "" {
		pre, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix; write one such as 10.0.0.0/8 or fd00::/8", s)
	}
	if pre.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 prefix in IPv6 form; write it as IPv4", s)
	}
	return pre.Masked(), nil
}
