// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// The programs are told the ranges whose pods pass the host's stack by; with a tunnel
// there are none, as nothing of other nodes' pods may come in beside it.
func TestRangesThatPassTheStackBy(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::/72")}
	six := netip.MustParseAddr("fd00:1::").As16()
	for _, c := range []struct {
		cfg  Config
		want weftbpf.BpfWeftConfig
	}{
		{Config{}, weftbpf.BpfWeftConfig{}},
		{Config{Direct: ranges, TunnelPort: 4789}, weftbpf.BpfWeftConfig{}},
		{Config{Direct: ranges[:1]}, weftbpf.BpfWeftConfig{Direct4: wire32(netip.MustParseAddr("10.1.2.0")), Direct4Mask: wire32(netip.MustParseAddr("255.255.255.0"))}},
		{Config{Direct: ranges[1:]}, weftbpf.BpfWeftConfig{Direct6: words(six), Direct6Mask: words([16]uint8{255, 255, 255, 255, 255, 255, 255, 255, 255})}},
	} {
		spec, err := loadSpec(c.cfg)
		must(t, err)
		var got weftbpf.BpfWeftConfig
		must(t, spec.Variables["weft_cfg"].Get(&got))
		if got.Direct4 != c.want.Direct4 || got.Direct4Mask != c.want.Direct4Mask || got.Direct6 != c.want.Direct6 || got.Direct6Mask != c.want.Direct6Mask {
			t.Errorf("%+v: the programs have %+v", c.cfg, got)
		}
	}
}
