// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// notePort notes whether a front end is a port of the node's that leads to a pod.
func (d *Datapath) notePort(at model.FrontendKey, port bool) {
	if port {
		d.ports[at] = true
	} else {
		delete(d.ports, at)
	}
}

// countPorts tells the programs how many such front ends there are: where there are
// none, uplinks look nothing up.
func (d *Datapath) countPorts() error {
	var row weftbpf.BpfWeftPortsRow
	if err := d.maps.WeftPorts.Lookup(uint32(0), &row); err != nil {
		return fmt.Errorf("reading the number of pods' ports: %w", err)
	}
	if row.Fronts == uint32(len(d.ports)) {
		return nil
	}
	row.Fronts = uint32(len(d.ports))
	if err := d.maps.WeftPorts.Put(uint32(0), row); err != nil {
		return fmt.Errorf("writing the number of pods' ports: %w", err)
	}
	return nil
}

// HostPorts tells whether the kernel leads ports of the node to pods; an earlier agent
// may have told it to.
func (d *Datapath) HostPorts() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var row weftbpf.BpfWeftPortsRow
	if err := d.maps.WeftPorts.Lookup(uint32(0), &row); err != nil {
		return false, fmt.Errorf("reading the number of pods' ports: %w", err)
	}
	return row.Fronts > 0, nil
}

// netnsCookie is the number by which programs know the network namespace of this
// process, the host's. Kernels before 5.14 do not tell it: then none is given.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("making a socket to learn the network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, nil
	}
	return cookie, nil
}
