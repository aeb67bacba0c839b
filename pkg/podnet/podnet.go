// SPDX-License-Identifier: Apache-2.0

// Package podnet makes, checks and removes the pair of devices that joins a pod
// to its host, and what belongs to it: addresses, routes, neighbours, sysctls.
// The CNI plugin uses all of it, the agent the host's half. Everything works on
// the calling process' network namespace and the pod's, given by path.
package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// RouteProtocol marks the routes that are ours (rtm_protocol), so that they are
// told from others when they are checked or removed.
const RouteProtocol = 119

// Limits of what a veth takes as MTU, in bytes of IP packet. IPv6 needs 1280.
const (
	MinMTU  = 68
	MinMTU6 = 1280
	MaxMTU  = 65535
)

// Spec is one pair.
type Spec struct {
	IfName     string // in the pod
	HostIfName string
	MAC        model.MAC // of the pod's device
	HostMAC    model.MAC
	MTU        int
	IPv4       netip.Addr // zero: none
	IPv6       netip.Addr
}

// Validate reports the first thing that is wrong.
func (s Spec) Validate() error {
	if err := attachment.ValidateIfName(s.IfName); err != nil {
		return err
	}
	switch {
	case !attachment.IsHostDevice(s.HostIfName):
		return fmt.Errorf("the host-side device name %q is not one of ours", s.HostIfName)
	case s.MTU < MinMTU || s.MTU > MaxMTU:
		return fmt.Errorf("the MTU %d is not between %d and %d", s.MTU, MinMTU, MaxMTU)
	case s.MAC[0]&1 != 0 || s.MAC == model.MAC{}:
		return fmt.Errorf("the MAC %s is not a unicast address", hw(s.MAC))
	case s.HostMAC[0]&1 != 0 || s.HostMAC == model.MAC{}:
		return fmt.Errorf("the MAC %s is not a unicast address", hw(s.HostMAC))
	case !s.IPv4.IsValid() && !s.IPv6.IsValid():
		return errors.New("there is neither an IPv4 nor an IPv6 address")
	case s.IPv4.IsValid() && !s.IPv4.Is4():
		return fmt.Errorf("%s is not an IPv4 address", s.IPv4)
	case s.IPv6.IsValid() && (!s.IPv6.Is6() || s.IPv6.Is4In6() || s.IPv6.Zone() != ""):
		return fmt.Errorf("%s is not an IPv6 address", s.IPv6)
	case s.IPv6.IsValid() && s.MTU < MinMTU6:
		return fmt.Errorf("the MTU %d is below %d, which IPv6 needs", s.MTU, MinMTU6)
	}
	return nil
}

// Of is the pair of an endpoint.
func Of(ep model.Endpoint) Spec {
	return Spec{
		IfName: ep.IfName, HostIfName: ep.HostIfName, MAC: ep.MAC, HostMAC: ep.HostMAC,
		MTU: int(ep.MTU), IPv4: ep.IPv4, IPv6: ep.IPv6,
	}
}

// addr is one of the pair's addresses and the gateway of its family.
type addr struct {
	ip      netip.Addr
	gateway netip.Addr
}

// addrs are the pair's addresses, IPv4 first.
func (s Spec) addrs() []addr {
	var out []addr
	if s.IPv4.IsValid() {
		out = append(out, addr{s.IPv4, netip.MustParseAddr(attachment.Gateway4)})
	}
	if s.IPv6.IsValid() {
		out = append(out, addr{s.IPv6, netip.MustParseAddr(attachment.Gateway6)})
	}
	return out
}

func (a addr) family() int {
	if a.ip.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// hostNet is an address as a prefix that holds nothing else.
func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// anyNet is the prefix that holds all of a family.
func anyNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: net.CIDRMask(0, a.BitLen())}
}

func hw(m model.MAC) net.HardwareAddr { return m[:] }

func isNotFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf)
}
