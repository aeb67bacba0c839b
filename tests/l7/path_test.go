// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/tests/sandbox"
)

const loopbackConf = "/proc/sys/net/ipv4/conf/lo/"

// way is what of the way to the proxy is there: rules, routes, settings.
func way() (string, error) {
	var text strings.Builder
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			return "", err
		}
		for _, r := range rules {
			if r.Table == 2004 {
				fmt.Fprintf(&text, "rule %d %#x ", r.Priority, r.Mark)
			}
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: 2004}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "routes %d ", len(routes))
	}
	for _, name := range []string{"accept_local", "rp_filter"} {
		now, err := os.ReadFile(loopbackConf + name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "%s %s ", name, strings.TrimSpace(string(now)))
	}
	return text.String(), nil
}

// What was set for the loopback device comes back, also by an agent that did not set it.
func TestTheWayIsMadeAndUnmade(t *testing.T) {
	const (
		none = "routes 0 routes 0 accept_local 0 rp_filter 1 "
		made = "rule 9 0x200 routes 1 rule 9 0x200 routes 1 accept_local 1 rp_filter 2 "
	)
	ns, err := sandbox.NewNS("way")
	ok(t, err)
	defer func() { ok(t, ns.Close()) }()
	dir := t.TempDir()
	within(t, ns, func() error {
		err := errors.Join(os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0),
			os.WriteFile(loopbackConf+"rp_filter", []byte("1"), 0))
		for _, step := range []struct {
			on   bool
			want string
		}{{false, none}, {true, made}, {true, made}, {false, none}, {false, none}} {
			err = errors.Join(err, nodenet.ProxyPath{StateDir: dir}.Set(step.on))
			got, e := way()
			if err = errors.Join(err, e); got != step.want {
				t.Errorf("set to %t: %q, want %q", step.on, got, step.want)
			}
		}
		return err
	})
	left, err := os.ReadDir(dir)
	ok(t, err)
	if len(left) != 0 {
		t.Errorf("left in the state folder: %v", left)
	}
}
