// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network writes links with their addresses, neighbours, rules and the routes of
// every table.
func Network(w io.Writer) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	names := make(map[int]string)
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		fmt.Fprintf(w, "link %d %s: %s, %s, MTU %d, %s, master %d, peer %d\n", a.Index, a.Name, l.Type(), a.OperState, a.MTU,
			a.HardwareAddr, a.MasterIndex, a.ParentIndex)
		addresses, e := netlink.AddrList(l, netlink.FAMILY_ALL)
		err = errors.Join(err, e)
		for _, address := range addresses {
			fmt.Fprintf(w, "  address %s\n", address)
		}
	}
	return errors.Join(err, neighbours(w, names), rules(w), routes(w, names))
}

func neighbours(w io.Writer, names map[int]string) error {
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	for _, n := range list {
		fmt.Fprintf(w, "neighbour %s at %s on %s, state %#x\n", n.IP, n.HardwareAddr, names[n.LinkIndex], n.State)
	}
	return err
}

func rules(w io.Writer) error {
	list, err := netlink.RuleList(netlink.FAMILY_ALL)
	for _, r := range list {
		fmt.Fprintln(w, r)
	}
	return err
}

func routes(w io.Writer, names map[int]string) (err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, e := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		err = errors.Join(err, e)
		for _, r := range list {
			to := "default"
			if r.Dst != nil {
				to = r.Dst.String()
			}
			fmt.Fprintf(w, "route %s table %d type %d", to, r.Table, r.Type)
			if r.Gw != nil {
				fmt.Fprintf(w, " by %s", net.IP(r.Gw))
			}
			fmt.Fprintf(w, " on %s priority %d MTU %d\n", names[r.LinkIndex], r.Priority, r.MTU)
		}
	}
	return err
}
