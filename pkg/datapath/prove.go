// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/model"
)

// actUnspec is what a program answers that lets a packet go on (TC_ACT_UNSPEC).
const actUnspec = 1<<32 - 1

// Prove has the kernel's programs look at packets between strangers, which they
// must let go on as they are, and asks the maps who has the host's addresses. It
// changes nothing, and no packet is sent.
func (d *Datapath) Prove(host []netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for name, prog := range map[string]*ebpf.Program{"weft_from_net": d.progs.WeftFromNet, "weft_to_net": d.progs.WeftToNet} {
		for _, frame := range [][]byte{strangers4(), strangers6()} {
			if err := passes(prog, frame); err != nil {
				errs = append(errs, fmt.Errorf("program %s: %w", name, err))
			}
		}
	}
	prefixes := make([]netip.Prefix, len(host))
	for i, a := range host {
		prefixes[i] = netip.PrefixFrom(a, a.BitLen())
	}
	rows, err := d.lookUpIPs(prefixes)
	errs = append(errs, err)
	for i, row := range rows {
		if err == nil && model.IdentityID(row.Identity) != model.IdentityHost {
			errs = append(errs, fmt.Errorf("the maps take the host's address %s for identity %d", host[i], row.Identity))
		}
	}
	return errors.Join(errs...)
}

func passes(prog *ebpf.Program, frame []byte) error {
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Repeat: 1}
	verdict, err := prog.Run(&opts)
	if err != nil {
		return fmt.Errorf("running it: %w", err)
	}
	if verdict != actUnspec || !bytes.Equal(opts.DataOut, frame) {
		return fmt.Errorf("a packet that does not concern it came back as %d, %x", verdict, opts.DataOut)
	}
	return nil
}

// strangers4 is a datagram from and to addresses of documentation (RFC 5737).
func strangers4() []byte {
	b := make([]byte, 14+20+8)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, model.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], 28)
	copy(ip[12:], netip.MustParseAddr("192.0.2.1").AsSlice())
	copy(ip[16:], netip.MustParseAddr("198.51.100.1").AsSlice())
	return datagram(b, 34)
}

// strangers6 is the same over IPv6 (RFC 3849).
func strangers6() []byte {
	b := make([]byte, 14+40+8)
	binary.BigEndian.PutUint16(b[12:], 0x86dd)
	ip := b[14:]
	ip[0], ip[6], ip[7] = 0x60, model.ProtoUDP, 64
	binary.BigEndian.PutUint16(ip[4:], 8)
	copy(ip[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
	copy(ip[24:], netip.MustParseAddr("2001:db8:ffff::1").AsSlice())
	return datagram(b, 54)
}

func datagram(b []byte, at int) []byte {
	binary.BigEndian.PutUint16(b[at:], 49152)
	binary.BigEndian.PutUint16(b[at+2:], 9) // discard
	binary.BigEndian.PutUint16(b[at+4:], 8)
	return b
}
