// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/podnet"
)

// Resubscribing after the kernel ended the subscription (its buffer ran over).
const resubscribeAfter = time.Second

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
	for first := true; ; first = false {
		err := a.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if first && !a.called {
			return err
		}
		a.log.Warn("watching the host's addresses was interrupted", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(resubscribeAfter):
		}
	}
}

// watch subscribes first and lists then, so that no change falls in between.
func (a *Addresses) watch(ctx context.Context) error {
	done := make(chan struct{})
	updates := make(chan netlink.AddrUpdate, 64)
	failed := make(chan error, 1)
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default: // one reason is enough
			}
		},
	})
	if err != nil {
		return fmt.Errorf("subscribing to address changes: %w", err)
	}
	// The subscription's goroutine ends when done is closed, and must not be left
	// waiting for a reader.
	defer func() {
		close(done)
		go func() {
			for range updates {
			}
		}()
	}()
	for {
		if err := a.refresh(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("receiving address changes: %w", err)
		case _, ok := <-updates:
			if !ok {
				return errors.New("receiving address changes: the subscription ended")
			}
		}
	}
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
