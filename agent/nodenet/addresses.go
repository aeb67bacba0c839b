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
	onChange func([]netip.Addr)
	log      *slog.Logger
	last     []netip.Addr
	called   bool
}

// NewAddresses calls onChange, from Run, with the sorted addresses at the start
// and whenever they are others. Addresses that only the host itself can use
// (loopback) or that mean nothing without a device (IPv6 link-local) are left out.
// Those by which it answers for a whole subnet belong to it, or a pod that may
// reach the world could reach the host's sockets by them.
func NewAddresses(onChange func([]netip.Addr), log *slog.Logger) *Addresses {
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
	if a.called && slices.Equal(now, a.last) {
		return nil
	}
	a.last, a.called = now, true
	a.onChange(slices.Clone(now))
	return nil
}

// HostAddresses lists the host's own addresses, sorted, as NewAddresses describes.
func HostAddresses() ([]netip.Addr, error) {
	list, err := podnet.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing the host's addresses: %w", err)
	}
	var out []netip.Addr
	for _, x := range list {
		ip, ok := netip.AddrFromSlice(x.IP)
		if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast() {
			continue
		}
		out = append(out, ip)
		if whole, ok := wholeSubnet(ip, x.Mask); ok {
			out = append(out, whole)
		}
		if broadcast, ok := netip.AddrFromSlice(x.Broadcast); ok {
			out = append(out, broadcast.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
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
