// SPDX-License-Identifier: Apache-2.0

// Package nodenet is the agent's hand on the host's own network: what must be set
// for pods to be routed, the host's addresses, the host's side of the pods'
// devices, and the removal of all of it.
package nodenet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
)

// unreachableMetric lets any other route to the same range win.
const unreachableMetric = 1 << 30

// SetUp makes the host route for pods, and refuse what goes to an address of the
// pod ranges that no pod has; without that it would follow the default route out,
// and back in, until its TTL ends. Ranges of an earlier configuration are removed.
func SetUp(podRanges []netip.Prefix) error {
	for _, p := range podRanges {
		if err := forward(p.Addr().Is4()); err != nil {
			return err
		}
		if err := netlink.RouteReplace(unreachable(p)); err != nil {
			return fmt.Errorf("setting the unreachable route for pod range %s: %w", p, err)
		}
	}
	return removeRoutes(podnet.RouteProtocol, func(r netlink.Route) bool {
		if r.Type != unix.RTN_UNREACHABLE {
			return false
		}
		for _, p := range podRanges {
			if r.Dst != nil && r.Dst.String() == p.String() {
				return false
			}
		}
		return true
	})
}

func forward(v4 bool) error {
	if v4 {
		return sysctl("ipv4/ip_forward", "1")
	}
	if err := keepRouterAdvertisements(); err != nil {
		return err
	}
	return sysctl("ipv6/conf/all/forwarding", "1")
}

// keepRouterAdvertisements lets devices that take router advertisements go on with
// it (accept_ra 2) when the host begins to forward. Otherwise the kernel would drop
// the default routes that the host itself lives by.
func keepRouterAdvertisements() error {
	const conf = "/proc/sys/net/ipv6/conf/"
	if on, err := os.ReadFile(conf + "all/forwarding"); err == nil && strings.TrimSpace(string(on)) == "1" {
		return nil // whoever turned it on has decided
	}
	devices, err := os.ReadDir(conf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing IPv6 settings: %w", err)
	}
	for _, d := range devices {
		now, err := os.ReadFile(conf + d.Name() + "/accept_ra")
		if err != nil || d.Name() == "all" || strings.TrimSpace(string(now)) != "1" {
			continue // a device may go while we look
		}
		if err := sysctl("ipv6/conf/"+d.Name()+"/accept_ra", "2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func sysctl(key, value string) error {
	path := "/proc/sys/net/" + key
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("setting net/%s: the kernel has no such setting; is the address family turned off? %w", key, err)
	}
	if err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("setting net/%s to %s: %w", key, value, err)
	}
	return nil
}

func unreachable(p netip.Prefix) *netlink.Route {
	family := netlink.FAMILY_V6
	if p.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	return &netlink.Route{
		Dst:  &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric, Family: family,
		Protocol: podnet.RouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

// removeRoutes removes those of our routes of a protocol that doomed says.
func removeRoutes(protocol netlink.RouteProtocol, doomed func(netlink.Route) bool) error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := podnet.Dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family,
				&netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_UNSPEC},
				netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("listing routes: %w", err))
			continue
		}
		for _, r := range routes {
			if !doomed(r) {
				continue
			}
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("removing the route to %s: %w", r.Dst, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Devices are the host's network devices.
type Devices struct{}

// Find answers a device's index, or 0 if there is none of that name.
func (Devices) Find(name string) (uint32, error) {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking up device %s: %w", name, err)
	}
	return uint32(link.Attrs().Index), nil
}

// HostSide lists the names of all host-side devices.
func (Devices) HostSide() ([]string, error) {
	links, err := podnet.Dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	var out []string
	for _, l := range links {
		if l.Type() == "veth" && attachment.IsHostDevice(l.Attrs().Name) {
			out = append(out, l.Attrs().Name)
		}
	}
	return out, nil
}

// Remove removes a host-side device, and so the pod's end; none is no error.
func (Devices) Remove(name string) error {
	if !attachment.IsHostDevice(name) {
		return fmt.Errorf("device %q is not one of ours", name)
	}
	return podnet.RemoveHost(name)
}

// Block sets a host-side device down, which also takes its routes; none is no
// error.
func (Devices) Block(name string) error {
	if !attachment.IsHostDevice(name) {
		return fmt.Errorf("device %q is not one of ours", name)
	}
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking up device %s: %w", name, err)
	}
	if err := netlink.LinkSetDown(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("setting device %s down: %w", name, err)
	}
	return nil
}

// EnsureHostSide gives the host's side of an endpoint the routes, neighbours and
// settings that it lacks.
func (Devices) EnsureHostSide(ep model.Endpoint) error { return podnet.EnsureHost(podnet.Of(ep)) }
