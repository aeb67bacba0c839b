// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package speed

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forwarded is how many packets the stack of a node has forwarded.
func (n *plainNode) forwarded(tb testing.TB) (count int) {
	tb.Helper()
	ok(tb, n.host.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if fields[0] != "Ip:" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			for i, name := range names {
				if name == "ForwDatagrams" {
					count, err = strconv.Atoi(fields[i])
					return err
				}
			}
		}
		return fmt.Errorf("the kernel does not tell how many packets it has forwarded:\n%s", text)
	}))
	return count
}

// forget takes the other node from the node's neighbours.
func (n *plainNode) forget(tb testing.TB) {
	tb.Helper()
	ok(tb, n.host.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: n.other().addr().AsSlice()})
		if errors.Is(err, unix.ENOENT) { // it was not looked for yet
			return nil
		}
		return err
	}))
}

// Between pods of two nodes the hosts' stacks see no packet, but for those that look for
// the neighbour; without the shortcut they see all.
func TestPodsOfTwoNodesPassTheHostsBy(t *testing.T) {
	weft := newWeftNodes(t, newPlainNodes(t, "past", underlayMTU).routed(t), 0)
	plain := newPlainNodes(t, "stack", underlayMTU).routed(t)
	for _, c := range []struct {
		nodes plainNodes
		pair  *pair
		past  bool
	}{{plainNodes{weft[0].plainNode, weft[1].plainNode}, weft.pair(), true}, {plain, plain.pair(""), false}} {
		c.pair.serve(t)
		for _, kind := range conversations() {
			for _, n := range c.nodes {
				n.forget(t)
			}
			before := [2]int{c.nodes[0].forwarded(t), c.nodes[1].forwarded(t)}
			if figure := kind.measure(t, c.pair); figure <= 0 {
				t.Errorf("%s: %v", kind.name, figure)
			}
			for i, n := range c.nodes {
				if seen := n.forwarded(t) - before[i]; c.past == (seen > 20) {
					t.Errorf("%s, past the stack %v: that of node %d has forwarded %d packets", kind.name, c.past, n.number, seen)
				}
			}
		}
	}
}
