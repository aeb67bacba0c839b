// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/podnet"
)

// defaultMTU is used on a host without a default route.
const defaultMTU = 1500

// MTU is the size of the pods' devices in bytes: what is configured, or else
// the smallest of the devices with a default route.
func MTU(configured uint16) (uint16, error) {
	if configured != 0 {
		return configured, nil
	}
	smallest := 0
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := podnet.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return 0, fmt.Errorf("listing routes for the MTU: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
				continue
			}
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				continue // it went since it was listed
			}
			if mtu := link.Attrs().MTU; smallest == 0 || mtu < smallest {
				smallest = mtu
			}
		}
	}
	if smallest == 0 {
		return defaultMTU, nil
	}
	return uint16(min(smallest, 65535)), nil
}
