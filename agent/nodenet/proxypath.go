// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/podnet"
)

// How packets for the proxy come to its sockets: the programs mark them
// (WEFT_MARK_PROXY), and a rule has the stack take any address in them for its own.
const (
	proxyMark     = 0x200
	proxyMask     = 0xf00
	proxyTable    = 2004
	proxyPriority = 9 // before other rules with marks, such as a VPN's
)

// loopbackFile has what was set for the loopback device before.
const loopbackFile = "loopback-was"

// ProxyPath is the way of packets to the proxy's sockets.
type ProxyPath struct{ StateDir string } // where what was set before is kept

// Set makes the way, or ends it, as far as it is not so already.
func (p ProxyPath) Set(on bool) error {
	if on {
		return errors.Join(p.loosen(), addProxyRoutes())
	}
	return errors.Join(removeProxyRoutes(), p.restore())
}

func proxyRule(family int) *netlink.Rule {
	rule := netlink.NewRule()
	mask := uint32(proxyMask)
	rule.Family, rule.Priority, rule.Table = family, proxyPriority, proxyTable
	rule.Mark, rule.Mask = proxyMark, &mask
	return rule
}

func proxyRoute(family int) *netlink.Route {
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if family == netlink.FAMILY_V6 {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{
		LinkIndex: 1, Dst: all, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: proxyTable,
		Protocol: podnet.RouteProtocol, Family: family,
	}
}

// proxyFamilies are those that the kernel has.
func proxyFamilies() []int {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return []int{netlink.FAMILY_V4}
	}
	return []int{netlink.FAMILY_V4, netlink.FAMILY_V6}
}

func addProxyRoutes() error {
	for _, family := range proxyFamilies() {
		if err := netlink.RouteReplace(proxyRoute(family)); err != nil {
			return fmt.Errorf("setting the route to the proxy: %w", err)
		}
		if err := netlink.RuleAdd(proxyRule(family)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding the rule about packets for the proxy: %w", err)
		}
	}
	return nil
}

func removeProxyRoutes() error {
	var errs []error
	for _, family := range proxyFamilies() {
		if err := netlink.RuleDel(proxyRule(family)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("removing the rule about packets for the proxy: %w", err))
		}
		if err := netlink.RouteDel(proxyRoute(family)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("removing the route to the proxy: %w", err))
		}
	}
	return errors.Join(errs...)
}

// loopbackSettings let the loopback device take packets for the proxy: those of the
// host's own clients bear the host's address, and no others are reached by this device.
func loopbackSettings() map[string]string {
	loose := "0"
	if now, err := readSetting("all/rp_filter"); err == nil && now == "1" {
		loose = "2" // the larger of the two counts
	}
	return map[string]string{"accept_local": "1", "rp_filter": loose}
}

const ipv4Conf = "/proc/sys/net/ipv4/conf/"

func readSetting(name string) (string, error) {
	text, err := os.ReadFile(ipv4Conf + name)
	return strings.TrimSpace(string(text)), err
}

// loosen notes what was set, once, before it sets anything.
func (p ProxyPath) loosen() error {
	path := filepath.Join(p.StateDir, loopbackFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := noteLoopback(path); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("looking for %s: %w", path, err)
	}
	for name, value := range loopbackSettings() {
		if err := sysctl("ipv4/conf/lo/"+name, value); err != nil {
			return err
		}
	}
	return nil
}

func noteLoopback(path string) error {
	var lines strings.Builder
	for name := range loopbackSettings() {
		now, err := readSetting("lo/" + name)
		if err != nil {
			return fmt.Errorf("reading what is set for the loopback device: %w", err)
		}
		fmt.Fprintf(&lines, "%s=%s\n", name, now)
	}
	if err := attachment.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		return fmt.Errorf("noting what is set for the loopback device: %w", err)
	}
	return nil
}

// restore sets what was noted; where nothing was, nothing was changed.
func (p ProxyPath) restore() error {
	path := filepath.Join(p.StateDir, loopbackFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what was set for the loopback device: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if _, known := loopbackSettings()[name]; !ok || !known {
			continue
		}
		if err := sysctl("ipv4/conf/lo/"+name, value); err != nil {
			return err
		}
	}
	return os.Remove(path)
}
