// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/config"
)

// The node's own ranges are what passes the host's stack by, unless it is not to.
func TestTheShortcutIsOfTheNodesRanges(t *testing.T) {
	a := &agent{cfg: config.Default("node-1"), log: slog.New(slog.DiscardHandler), ranges: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}}
	if got := a.datapathConfig().Direct; !slices.Equal(got, a.ranges) {
		t.Errorf("by default: %v", got)
	}
	a.cfg.Shortcut = false
	if got := a.datapathConfig().Direct; len(got) != 0 {
		t.Errorf("without it: %v", got)
	}
}
