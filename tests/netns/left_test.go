// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// leftovers lists what Weft has left on the node: devices, routes, pins, files.
func leftovers(t *testing.T) []string {
	t.Helper()
	var out []string
	links, err := netlink.LinkList()
	ok(t, err)
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" {
			out = append(out, "device "+name)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		ok(t, err)
		for _, r := range routes {
			out = append(out, "route "+r.String())
		}
		rules, err := netlink.RuleList(family)
		ok(t, err)
		for _, r := range rules {
			if r.Priority != 0 && r.Priority != 32766 && r.Priority != 32767 && r.Priority != -1 {
				out = append(out, "rule "+r.String())
			}
		}
	}
	for _, dir := range []string{"/sys/fs/bpf", "/var/lib/weft", "/run/weft", "/run/netns", "/opt/cni/bin", "/etc/cni/net.d"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && path != dir && !strings.HasSuffix(path, ".debug") {
				out = append(out, "file "+path)
			}
			return nil
		})
		ok(t, err)
	}
	return out
}
