// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inventory lists what Weft could leave on the node: devices, routes, rules,
// pins, files.
func inventory(t *testing.T) []string {
	t.Helper()
	var out []string
	links, err := netlink.LinkList()
	ok(t, err)
	for _, l := range links {
		out = append(out, "device "+l.Attrs().Name)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		ok(t, err)
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL {
				continue // comes and goes with addresses and forwarding
			}
			out = append(out, "route "+r.String())
		}
		rules, err := netlink.RuleList(family)
		ok(t, err)
		for _, r := range rules {
			out = append(out, "rule "+r.String())
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
