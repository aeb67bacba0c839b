// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// SocketsEnded is how many sockets were ended because their backend is gone.
type SocketsEnded struct {
	TCP uint64
	UDP uint64
}

// haveSockDestroy looks for the function by which programs end sockets.
func haveSockDestroy() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var f *btf.Func
	return spec.TypeByName("bpf_sock_destroy", &f) == nil
}

// EndsSockets tells whether the kernel can end sockets (6.5).
func (d *Datapath) EndsSockets() bool { return d.endsSockets }

// BackendsRemoved tells that backends were removed since the last time it did.
func (d *Datapath) BackendsRemoved() <-chan struct{} { return d.removed }

func (d *Datapath) noteRemoved() {
	select {
	case d.removed <- struct{}{}:
	default: // somebody is told already
	}
}

// EndGoneSockets ends the sockets that wait for a backend that is gone, in every
// network namespace, and counts those that it could not reach. Where there are
// none it looks once at the sockets that were ever translated, and no further.
// It takes no lock, so that nobody waits for it.
func (d *Datapath) EndGoneSockets() (left int, err error) {
	if !d.endsSockets {
		return 0, nil
	}
	found, err := d.findGone()
	if err != nil || len(found) == 0 {
		return 0, err
	}
	err = d.endIn(slices.Sorted(maps.Keys(found)))
	found, again := d.findGone()
	for _, n := range found {
		left += n
	}
	return left, errors.Join(err, again)
}

// findGone counts the sockets whose backend is gone by the number of their
// network namespace.
func (d *Datapath) findGone() (map[uint32]int, error) {
	raw, err := runIterator(d.progs.WeftFindGone, d.maps.WeftSock)
	if err != nil {
		return nil, fmt.Errorf("looking for sockets whose backend is gone: %w", err)
	}
	found := make(map[uint32]int)
	size := binary.Size(weftbpf.BpfWeftGone{})
	for ; len(raw) >= size; raw = raw[size:] {
		found[binary.NativeEndian.Uint32(raw)]++
	}
	return found, nil
}

// endIn ends the sockets of network namespaces. One that nothing names any more
// is left out.
func (d *Datapath) endIn(namespaces []uint32) error {
	var errs []error
	paths, err := findNetNS(namespaces)
	if err != nil {
		errs = append(errs, err)
	}
	for inum, path := range paths {
		errs = append(errs, inNetNS(path, inum, func() error {
			_, tcp := runIterator(d.progs.WeftEndTcp, nil)
			_, udp := runIterator(d.progs.WeftEndUdp, nil)
			return errors.Join(tcp, udp)
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ending sockets whose backend is gone: %w", err)
	}
	return nil
}

// runIterator walks once and returns what the program wrote. An iterator over
// sockets walks those of the network namespace in which it is opened.
func runIterator(prog *ebpf.Program, over *ebpf.Map) ([]byte, error) {
	it, err := link.AttachIter(link.IterOptions{Program: prog, Map: over})
	if err != nil {
		return nil, fmt.Errorf("attaching an iterator: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("opening an iterator: %w", err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

// SocketsEnded counts the sockets that were ended because their backend is gone.
func (d *Datapath) SocketsEnded() (SocketsEnded, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tcp, err := sumOf(d.maps.WeftSockEnded, 0, "TCP sockets that were ended")
	if err != nil {
		return SocketsEnded{}, err
	}
	udp, err := sumOf(d.maps.WeftSockEnded, 1, "UDP sockets that were ended")
	return SocketsEnded{TCP: tcp, UDP: udp}, err
}
