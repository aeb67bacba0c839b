// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// maxHostBits bounds how many addresses of a large IPv6 range are used.
const maxHostBits = 62

// Pool gives out the addresses of one range. The network's own address (in IPv6
// the subnet router's), the first one after it, which is left to the node, and in
// IPv4 the broadcast address are never given out.
type Pool struct {
	prefix  netip.Prefix
	numbers *Numbers // offsets in prefix
}

// NewPool is for the addresses of prefix.
func NewPool(prefix netip.Prefix) (*Pool, error) {
	if !prefix.IsValid() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("pod range %q is not a prefix", prefix)
	}
	if prefix != prefix.Masked() {
		return nil, fmt.Errorf("pod range %s has bits set behind its length; did you mean %s?", prefix, prefix.Masked())
	}
	bits := min(prefix.Addr().BitLen()-prefix.Bits(), maxHostBits)
	if bits < 2 {
		return nil, fmt.Errorf("pod range %s is too small: it needs at least 4 addresses", prefix)
	}
	last := uint64(1)<<bits - 1
	if prefix.Addr().Is4() {
		last--
	}
	numbers, err := NewNumbers(2, last)
	if err != nil {
		return nil, fmt.Errorf("pod range %s: %w", prefix, err)
	}
	return &Pool{prefix: prefix, numbers: numbers}, nil
}

// Prefix is the range.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Next takes a free address.
func (p *Pool) Next() (netip.Addr, error) {
	off, err := p.numbers.Next()
	if err != nil {
		return netip.Addr{}, p.exhausted()
	}
	return p.at(off), nil
}

func (p *Pool) exhausted() error {
	return fmt.Errorf("no free address in the pod range %s: %w (%d addresses)", p.prefix, ErrExhausted, p.Size())
}

// Take marks an address as in use.
func (p *Pool) Take(a netip.Addr) error {
	off, ok := p.offset(a)
	if !ok {
		return fmt.Errorf("address %s and pod range %s: %w", a, p.prefix, ErrOutside)
	}
	if err := p.numbers.Take(off); err != nil {
		return fmt.Errorf("address %s of pod range %s: %w", a, p.prefix, err)
	}
	return nil
}

// Free gives an address back; one that is not in use is left alone.
func (p *Pool) Free(a netip.Addr) {
	if off, ok := p.offset(a); ok {
		p.numbers.Free(off)
	}
}

// InUse counts the addresses that are taken.
func (p *Pool) InUse() uint64 { return p.numbers.InUse() }

// Size is how many addresses can be in use at once.
func (p *Pool) Size() uint64 { return p.numbers.Size() }

func (p *Pool) at(off uint64) netip.Addr {
	if p.prefix.Addr().Is4() {
		b := p.prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(off))
		return netip.AddrFrom4(b)
	}
	b := p.prefix.Addr().As16()
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(b[8:], low+off) // no carry: off is in bits that are zero
	return netip.AddrFrom16(b)
}

func (p *Pool) offset(a netip.Addr) (uint64, bool) {
	if !p.prefix.Contains(a) {
		return 0, false
	}
	if a.Is4() {
		b, base := a.As4(), p.prefix.Addr().As4()
		return uint64(binary.BigEndian.Uint32(b[:]) - binary.BigEndian.Uint32(base[:])), true
	}
	b, base := a.As16(), p.prefix.Addr().As16()
	if p.prefix.Bits() < 64 && string(b[:8]) != string(base[:8]) {
		return 0, false // beyond what maxHostBits leaves
	}
	return binary.BigEndian.Uint64(b[8:]) - binary.BigEndian.Uint64(base[8:]), true
}
