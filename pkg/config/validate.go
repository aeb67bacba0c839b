// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/strictyaml"
)

// Bounds of the numbers.
const (
	minMTU           = 1280 // what IPv6 asks for
	maxMTU           = 65535
	minEntries       = 1024
	maxEntries       = 1 << 24
	minFlows         = 64
	maxFlows         = 1 << 22
	maxTimeout       = 5 * 24 * time.Hour
	maxSocketPath    = 107 // bytes, a limit of the kernel
	longestSocket    = "/agent.sock"
	maxName          = 63
	maxPodBits4      = 30
	maxPodBits6      = 126
	metricsPortLimit = 65535
	minPort          = 1024 // below are ports that only root may bind
	maxDevice        = 15   // bytes, a limit of the kernel
)

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// checker collects faults.
type checker struct{ faults []strictyaml.Error }

func (c *checker) fail(field, format string, args ...any) {
	c.faults = append(c.faults, strictyaml.Error{Field: field, Message: fmt.Sprintf(format, args...)})
}

// validate checks what types alone do not say, in the order of the fields.
func (c *Config) validate() []strictyaml.Error {
	k := &checker{}
	k.name("nodeName", c.NodeName)
	k.name("clusterName", c.ClusterName)
	k.kubernetes(c)
	k.path("manifests", c.Manifests)
	k.path("stateDir", c.StateDir)
	k.path("runDir", c.RunDir)
	if len(c.RunDir)+len(longestSocket) > maxSocketPath {
		k.fail("runDir", "too long for a socket's path; use at most %d bytes", maxSocketPath-len(longestSocket))
	}
	k.path("bpffs", c.BPFFS)
	if c.Cgroup != "" {
		k.path("cgroup", c.Cgroup)
	}
	if !c.Kubernetes.Enabled {
		k.podCIDRs(c.PodCIDRs)
	}
	for i, p := range c.ClusterCIDRs {
		k.masked(fmt.Sprintf("clusterCIDRs[%d]", i), p)
	}
	if c.ClusterCIDRs != nil {
		k.inside("clusterCIDRs", c.PodCIDRs, c.ClusterCIDRs)
	}
	if c.MTU != 0 && c.MTU < minMTU {
		k.fail("mtu", "must be 0 or from %d to %d, got %d", minMTU, maxMTU, c.MTU)
	}
	k.tunnel(c.Tunnel, c.Masquerade)
	k.metrics("metricsAddress", c.MetricsAddress)
	if _, err := c.IdentityLabels.Filter(); err != nil {
		field, msg, _ := strings.Cut(err.Error(), ": ")
		index, msg, _ := strings.Cut(msg, ": ")
		k.fail("identityLabels."+field+index, "%s", msg)
	}
	k.conntrack(c.Conntrack)
	k.masquerade(c.Masquerade)
	if c.Envoy.Binary != "" {
		k.path("envoy.binary", c.Envoy.Binary)
	}
	k.between("flows.bufferSize", int64(c.Flows.BufferSize), minFlows, maxFlows)
	k.duration("flows.aliveInterval", c.Flows.AliveInterval)
	k.path("cni.binDir", c.CNI.BinDir)
	k.path("cni.confDir", c.CNI.ConfDir)
	k.metrics("operator.metricsAddress", c.Operator.MetricsAddress)
	k.duration("operator.identityGrace", c.Operator.IdentityGrace)
	return k.faults
}

// Filter is the filter that the settings stand for.
func (l IdentityLabels) Filter() (identity.Filter, error) {
	return identity.NewFilter(l.Include, l.Exclude)
}

// kubernetes checks what is otherwise in a cluster.
func (k *checker) kubernetes(c *Config) {
	if c.Kubernetes.Kubeconfig != "" {
		k.path("kubernetes.kubeconfig", c.Kubernetes.Kubeconfig)
	}
	if !c.Kubernetes.Enabled {
		return
	}
	if c.PodCIDRs != nil {
		k.fail("podCIDRs", "in Kubernetes a node's ranges come from its WeftNode; remove the setting")
	}
	if len(c.ClusterCIDRs) == 0 {
		k.fail("clusterCIDRs", "is missing; in Kubernetes give the ranges of all pods, such as 10.244.0.0/16")
	}
}

func (k *checker) conntrack(c Conntrack) {
	k.between("conntrack.entriesIPv4", int64(c.EntriesIPv4), minEntries, maxEntries)
	k.between("conntrack.entriesIPv6", int64(c.EntriesIPv6), minEntries, maxEntries)
	k.duration("conntrack.tcpTimeout", c.TCPTimeout)
	k.duration("conntrack.tcpClosingTimeout", c.TCPClosingTimeout)
	k.duration("conntrack.otherTimeout", c.OtherTimeout)
	k.duration("conntrack.unansweredTimeout", c.UnansweredTimeout)
}

// tunnel checks that no translated flow can have the tunnel's port: what comes back
// to it would be taken for a tunnel's frame.
func (k *checker) tunnel(t Tunnel, m Masquerade) {
	if t.Port == 0 {
		k.fail("tunnel.port", "must be from 1 to %d, got 0", math.MaxUint16)
	}
	if t.Protocol != TunnelNone && t.Port >= m.FirstPort && t.Port <= m.LastPort {
		k.fail("tunnel.port", "%d is among the ports of masquerade.firstPort to masquerade.lastPort (%d to %d); choose one that is not, such as 4789", t.Port, m.FirstPort, m.LastPort)
	}
}

func (k *checker) masquerade(m Masquerade) {
	for i, name := range m.Devices {
		if name == "" || len(name) > maxDevice || strings.ContainsAny(name, "/ :") {
			k.fail(fmt.Sprintf("masquerade.devices[%d]", i), "%q is not the name of a network device; ip link lists them", name)
		}
	}
	k.between("masquerade.firstPort", int64(m.FirstPort), minPort, math.MaxUint16)
	k.between("masquerade.lastPort", int64(m.LastPort), int64(max(m.FirstPort, minPort)), math.MaxUint16)
}

func (k *checker) name(field, s string) {
	if len(s) > maxName || !nameForm.MatchString(s) {
		k.fail(field, "%q is not a name; use at most %d small letters, digits, dashes and dots", s, maxName)
	}
}

func (k *checker) path(field, s string) {
	if !filepath.IsAbs(s) {
		k.fail(field, "%q is not an absolute path; begin it with /", s)
	}
}

func (k *checker) between(field string, n, low, high int64) {
	if n < low || n > high {
		k.fail(field, "must be from %d to %d, got %d", low, high, n)
	}
}

func (k *checker) duration(field string, d Duration) {
	if t := time.Duration(d); t < time.Second || t > maxTimeout || t%time.Second != 0 {
		k.fail(field, "must be whole seconds from 1s to %s, got %s", Duration(maxTimeout), d)
	}
}

func (k *checker) masked(field string, p netip.Prefix) bool {
	if p.Masked() != p {
		k.fail(field, "%s has bits set after its length; write %s", p, p.Masked())
		return false
	}
	return true
}

func (k *checker) podCIDRs(in []netip.Prefix) {
	if len(in) == 0 {
		k.fail("podCIDRs", "is empty; give a range of IPv4, of IPv6 or one of each")
	}
	var have [2]bool
	for i, p := range in {
		field, family, limit := fmt.Sprintf("podCIDRs[%d]", i), 0, maxPodBits4
		if p.Addr().Is6() {
			family, limit = 1, maxPodBits6
		}
		a := p.Addr()
		switch {
		case !k.masked(field, p):
		case have[family]:
			k.fail(field, "a second range of one family; give one of IPv4 and one of IPv6 at most")
		case p.Bits() > limit:
			k.fail(field, "%s is too small; a length of at most %d leaves room for pods", p, limit)
		case a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.Is4In6():
			k.fail(field, "%s is not a range for hosts; use a private one such as 10.244.0.0/24 or fd00:10:244::/64", p)
		}
		have[family] = true
	}
}

// inside checks that each pod range is in one of the cluster's.
func (k *checker) inside(field string, pods, cluster []netip.Prefix) {
	for _, p := range pods {
		found := false
		for _, c := range cluster {
			found = found || (c.Bits() <= p.Bits() && c.Contains(p.Addr()))
		}
		if !found {
			k.fail(field, "leaves out %s of podCIDRs; add it or a range around it", p)
		}
	}
}

func (k *checker) metrics(field, s string) {
	if s == "" {
		return
	}
	_, port, err := net.SplitHostPort(s)
	n, numErr := strconv.Atoi(port)
	if err != nil || numErr != nil || n < 1 || n > metricsPortLimit {
		k.fail(field, `%q is not an address with a port; write it as 127.0.0.1:9465, or "" for none`, s)
	}
}
