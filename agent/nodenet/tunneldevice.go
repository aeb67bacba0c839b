// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// TunnelDeviceName is the device by which packets go to other nodes and come from
// them. There is one; what its programs say of a packet tells where it goes.
const TunnelDeviceName = "weft_vxlan"

// findTunnel is the device, or nil.
func findTunnel() (netlink.Link, error) {
	link, err := netlink.LinkByName(TunnelDeviceName)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up device %s: %w", TunnelDeviceName, err)
	}
	return link, nil
}

// ensureTunnel makes the device, or takes over the one that is there, and lets attach
// put programs on it before it is up: without them it would hand on whatever comes.
func ensureTunnel(port, mtu uint16, attach func(model.TunnelDevice) error) (netlink.Link, error) {
	link, err := findTunnel()
	if err != nil {
		return nil, err
	}
	if link != nil && !usable(link, port) {
		if _, err := RemoveTunnel(); err != nil {
			return nil, err
		}
		link = nil
	}
	if link == nil {
		if link, err = makeTunnel(port); err != nil {
			return nil, err
		}
	}
	a := link.Attrs()
	if err := quietTunnel(a.Name); err != nil {
		return nil, fmt.Errorf("setting up %s: %w", a.Name, err)
	}
	if a.MTU != int(mtu) {
		if err := netlink.LinkSetMTU(link, int(mtu)); err != nil {
			return nil, fmt.Errorf("setting the MTU of %s to %d: %w", a.Name, mtu, err)
		}
	}
	if err := attach(model.TunnelDevice{Name: a.Name, Index: uint32(a.Index), MTU: mtu}); err != nil {
		return nil, fmt.Errorf("attaching programs to %s: %w", a.Name, err)
	}
	if a.RawFlags&unix.IFF_UP != 0 {
		return link, nil
	}
	return link, startTunnel(link, port)
}

// usable tells whether the device is as makeTunnel would make it.
func usable(link netlink.Link, port uint16) bool {
	v, ok := link.(*netlink.Vxlan)
	return ok && v.FlowBased && !v.Learning && v.Port == int(port) && v.Attrs().RawFlags&unix.IFF_NOARP != 0
}

// makeTunnel makes the device, which is down. It has no addresses, and nobody asks
// for neighbours on it.
func makeTunnel(port uint16) (netlink.Link, error) {
	v := &netlink.Vxlan{LinkAttrs: netlink.NewLinkAttrs(), FlowBased: true, Port: int(port)}
	v.Name = TunnelDeviceName
	err := netlink.LinkAdd(v)
	if errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("making %s: another device is for VXLAN at UDP port %d (ip -d link show type vxlan lists them); remove it, or choose another tunnel.port in the whole cluster", v.Name, port)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("making %s: the kernel has no VXLAN (CONFIG_VXLAN); load the module vxlan, or set tunnel.protocol to none", v.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", v.Name, err)
	}
	link, err := findTunnel()
	if err == nil && link == nil {
		err = errors.New("it went at once; does someone else remove devices?")
	}
	if err == nil {
		err = netlink.LinkSetARPOff(link)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making %s: %w", v.Name, err), netlink.LinkDel(v))
	}
	return link, nil
}

// quietTunnel keeps the kernel from giving the device an address of its own, and
// from refusing packets whose sources it reaches by other devices: another node's host
// speaks to pods by the tunnel and to this host without.
func quietTunnel(name string) error {
	loose := "0"
	if all, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter"); err == nil && strings.TrimSpace(string(all)) == "1" {
		loose = "2" // the larger of the two counts
	}
	err := sysctl("ipv6/conf/"+name+"/addr_gen_mode", "1")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // IPv6 is turned off
	}
	return errors.Join(err, sysctl("ipv4/conf/"+name+"/rp_filter", loose))
}

func startTunnel(link netlink.Link, port uint16) error {
	err := netlink.LinkSetUp(link)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("setting %s up: UDP port %d is in use (ss -lun shows it); end what uses it, or choose another tunnel.port in the whole cluster", link.Attrs().Name, port)
	}
	if err != nil {
		return fmt.Errorf("setting %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

// RemoveTunnel removes the device, and with it the routes by it; were tells whether
// there was one. It must go before its programs do, without which it would hand on
// whatever comes.
func RemoveTunnel() (were bool, err error) {
	link, err := findTunnel()
	if err != nil || link == nil {
		return false, err
	}
	var none netlink.LinkNotFoundError
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.As(err, &none) {
		return true, fmt.Errorf("removing %s: %w", TunnelDeviceName, err)
	}
	return true, nil
}
