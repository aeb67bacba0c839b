// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// The proof of a datapath runs its programs, and finds maps that do not know the
// host.
func TestADatapathProvesThatItWorks(t *testing.T) {
	k := newKernel(t)
	host := []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
	must(t, k.dp.Prove(nil))
	if err := k.dp.Prove(host); err == nil || !strings.Contains(err.Error(), "192.0.2.9") || !strings.Contains(err.Error(), "2001:db8::9") {
		t.Errorf("maps that do not know the host: %v", err)
	}
	var rows []model.IPRow
	for _, a := range host {
		rows = append(rows, model.IPRow{Prefix: netip.PrefixFrom(a, a.BitLen()), Identity: model.IdentityHost})
	}
	must(t, k.dp.ApplyIPs(rows, nil))
	must(t, k.dp.Prove(host))
	counters, err := k.dp.Counters()
	must(t, err)
	for _, c := range counters {
		if c.Packets != 0 {
			t.Errorf("the proof was counted as traffic: %+v", c)
		}
	}
}
