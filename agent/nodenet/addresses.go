// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/podnet"
)

// Addresses watches the host's own addresses.
type Addresses struct {
	onChange func(HostAddrs)
	log      *slog.Logger
	last     HostAddrs
	called   bool
}

// HostAddrs are the host's own addresses, each list sorted. Addresses that only the
// host itself can use (loopback) or that mean nothing without a device (IPv6
// link-local) are left out. Those by which it answers for a whole subnet belong to it,
// or a pod that may reach the world could reach the host's sockets by them.
type HostAddrs struct{ Own, Subnets []netip.Addr }

// All are both kinds, sorted.
func (h HostAddrs) All() []netip.Addr {
	out := slices.Concat(h.Own, h.Subnets)
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// NewAddresses calls onChange, from Run, with the addresses at the start and whenever
// they are others.
func NewAddresses(onChange func(HostAddrs), log *slog.Logger) *Addresses {
	return &Addresses{onChange: onChange, log: log}
}

// Run watches until ctx ends. It fails if the addresses cannot be read at the
// start.
func (a *Addresses) Run(ctx context.Context) error {
	return watch(ctx, a.log, "the host's addresses", a.refresh, addressChanges)
}

func (a *Addresses) refresh() error {
	now, err := HostAddresses()
	if err != nil {
		return err
	}
	if a.called && slices.Equal(now.Own, a.last.Own) && slices.Equal(now.Subnets, a.last.Subnets) {
		return nil
	}
	a.last, a.called = now, true
	a.onChange(now)
	return nil
}

// HostAddresses lists the host's own addresses.
func HostAddresses() (out HostAddrs, err error) {
	list, err := podnet.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return out, fmt.Errorf("listing the host's addresses: %w", err)
	}
	for _, x := range list {
		ip, ok := netip.AddrFromSlice(x.IP)
		if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast() {
			continue
		}
		out.Own = append(out.Own, ip)
		if whole, ok := wholeSubnet(ip, x.Mask); ok {
			out.Subnets = append(out.Subnets, whole)
		}
		if broadcast, ok := netip.AddrFromSlice(x.Broadcast); ok {
			out.Subnets = append(out.Subnets, broadcast.Unmap())
		}
	}
	out.Own = sorted(out.Own)
	out.Subnets = slices.DeleteFunc(sorted(out.Subnets), func(a netip.Addr) bool { return slices.Contains(out.Own, a) })
	return out, nil
}

func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// wholeSubnet is the address by which a host answers for all of a subnet:
// broadcast in IPv4, that of any router in IPv6.
func wholeSubnet(ip netip.Addr, mask net.IPMask) (netip.Addr, bool) {
	ones, bits := mask.Size()
	if bits != ip.BitLen() || bits-ones < 2 {
		return netip.Addr{}, false
	}
	b := ip.AsSlice()
	for i := range b {
		b[i] &= mask[i]
		if ip.Is4() {
			b[i] |= ^mask[i]
		}
	}
	return netip.AddrFromSlice(b)
}
