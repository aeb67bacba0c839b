// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func defaultRoute(link netlink.Link, gateway string) *netlink.Route {
	gw, all := net.ParseIP(gateway), &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if gw.To4() == nil {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: gw}
}

func nsHandle(f *os.File) netns.NsHandle { return netns.NsHandle(f.Fd()) }
