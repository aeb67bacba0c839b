// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// Allocator gives an endpoint its addresses: one of each family the node has a
// pod range for, or none.
type Allocator struct {
	v4, v6 *Pool // nil: the family is off
}

// NewAllocator takes the node's pod ranges; a zero prefix turns its family off.
func NewAllocator(v4, v6 netip.Prefix) (*Allocator, error) {
	if v4 == (netip.Prefix{}) && v6 == (netip.Prefix{}) {
		return nil, errors.New("no pod range is configured, for neither IPv4 nor IPv6")
	}
	a := &Allocator{}
	var err error
	if v4 != (netip.Prefix{}) {
		if !v4.Addr().Is4() {
			return nil, fmt.Errorf("the IPv4 pod range %s is not IPv4", v4)
		}
		if a.v4, err = NewPool(v4); err != nil {
			return nil, err
		}
	}
	if v6 != (netip.Prefix{}) {
		if !v6.Addr().Is6() {
			return nil, fmt.Errorf("the IPv6 pod range %s is not IPv6", v6)
		}
		if a.v6, err = NewPool(v6); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Next takes an address of each family; on an error none is taken.
func (a *Allocator) Next() (v4, v6 netip.Addr, err error) {
	if a.v4 != nil {
		if v4, err = a.v4.Next(); err != nil {
			return netip.Addr{}, netip.Addr{}, err
		}
	}
	if a.v6 != nil {
		if v6, err = a.v6.Next(); err != nil {
			a.Free(v4, netip.Addr{})
			return netip.Addr{}, netip.Addr{}, err
		}
	}
	return v4, v6, nil
}

// Take marks the addresses of a restored endpoint as in use; on ErrInUse none is
// taken. An address that no present range holds (the ranges were changed) is
// reported as ErrOutside after the other was taken, so that the endpoint can live
// on with it.
func (a *Allocator) Take(v4, v6 netip.Addr) error {
	err4 := take(a.v4, v4)
	if errors.Is(err4, ErrInUse) {
		return err4
	}
	err6 := take(a.v6, v6)
	if errors.Is(err6, ErrInUse) {
		if err4 == nil {
			a.Free(v4, netip.Addr{})
		}
		return err6
	}
	return errors.Join(err4, err6)
}

func take(p *Pool, addr netip.Addr) error {
	switch {
	case !addr.IsValid():
		return nil
	case p == nil:
		return fmt.Errorf("address %s: %w", addr, ErrOutside)
	}
	return p.Take(addr)
}

// Free gives addresses back; zero ones and those not in use are left alone.
func (a *Allocator) Free(v4, v6 netip.Addr) {
	if a.v4 != nil && v4.IsValid() {
		a.v4.Free(v4)
	}
	if a.v6 != nil && v6.IsValid() {
		a.v6.Free(v6)
	}
}

// StartAfter makes the first pass over each range begin behind these addresses:
// those of the youngest restored endpoint.
func (a *Allocator) StartAfter(v4, v6 netip.Addr) {
	for _, x := range []struct {
		p    *Pool
		addr netip.Addr
	}{{a.v4, v4}, {a.v6, v6}} {
		if x.p == nil || !x.addr.IsValid() {
			continue
		}
		if off, ok := x.p.offset(x.addr); ok {
			x.p.numbers.StartAfter(off)
		}
	}
}

// Avoid has addresses that nobody has come last, as if they had just been given back:
// somebody may still take them for another endpoint's. Others are left alone.
func (a *Allocator) Avoid(addrs []netip.Addr) {
	for _, addr := range addrs {
		p := a.v4
		if addr.Is6() {
			p = a.v6
		}
		if p != nil && p.Take(addr) == nil {
			p.Free(addr)
		}
	}
}

// Prefixes are the pod ranges.
func (a *Allocator) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []*Pool{a.v4, a.v6} {
		if p != nil {
			out = append(out, p.prefix)
		}
	}
	return out
}

// Room tells why Next would fail, or nil.
func (a *Allocator) Room() error {
	for _, p := range []*Pool{a.v4, a.v6} {
		if p != nil && p.InUse() == p.Size() {
			return p.exhausted()
		}
	}
	return nil
}
