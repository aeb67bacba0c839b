// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Up gives a device of this network namespace its addresses, which are good at once,
// and brings it up.
func Up(name string, addrs ...string) (netlink.Link, error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding device %s: %w", name, err)
	}
	// While its link-local address is tried, for a second, the host asks for no neighbour.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
		return nil, fmt.Errorf("readying device %s: %w", name, err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return nil, fmt.Errorf("reading an address of device %s: %w", name, err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(dev, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("giving device %s an address: %w", name, err)
		}
	}
	return dev, netlink.LinkSetUp(dev)
}
