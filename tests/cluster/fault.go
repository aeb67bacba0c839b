// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

// routedAway is the priority of rules that go before those that every machine has,
// but for that of its own addresses.
const routedAway = 10

// RouteAway has what the node sends to these prefixes be refused, whatever routes there
// are, until undo is called.
func (n *Node) RouteAway(prefixes ...string) (undo func() error, err error) {
	init, err := machine.PID1(n.cluster.at.machine(n.Name()))
	if err != nil {
		return nil, err
	}
	var rules []*netlink.Rule
	for _, p := range prefixes {
		to, err := netlink.ParseIPNet(p)
		if err != nil {
			return nil, fmt.Errorf("prefix %s: %w", p, err)
		}
		r := netlink.NewRule()
		r.Priority, r.Dst, r.Type, r.Family = routedAway, to, unix.FR_ACT_UNREACHABLE, netlink.FAMILY_V4
		if to.IP.To4() == nil {
			r.Family = netlink.FAMILY_V6
		}
		rules = append(rules, r)
	}
	undo = func() error { return changeRules(init.PID, rules, (*inside).RuleDel) }
	return undo, changeRules(init.PID, rules, (*inside).RuleAdd)
}

func changeRules(pid int, rules []*netlink.Rule, change func(*inside, *netlink.Rule) error) error {
	in, err := enterNetwork(pid)
	if err != nil {
		return err
	}
	defer in.close()
	for _, r := range rules {
		if e := change(in, r); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", r, e))
		}
	}
	return err
}

// Network tells the node's links, addresses, neighbours, rules and routes, a line each.
func (n *Node) Network(ctx context.Context) (string, error) {
	return n.Run(ctx, n.cluster.binary()+" network")
}
