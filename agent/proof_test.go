// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/state"
)

// programs are a datapath that may fail its proof.
type programs struct {
	err   error
	asked [][]netip.Addr
}

func (p *programs) Prove(host []netip.Addr) error {
	p.asked = append(p.asked, host)
	return p.err
}

func TestANodeIsReadyOnceItsDatapathIsProven(t *testing.T) {
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tables.ReplaceHostAddrs([]netip.Addr{netip.MustParseAddr("192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	waits, dp := "the API server is silent", &programs{}
	p := &proof{waiting: func() string { return waits }, realized: engine.NewRealized(), dp: dp, tables: tables}
	not := func(want string) {
		t.Helper()
		if err := p.ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ready: %v, want %q", err, want)
		}
	}
	not("the API server is silent")
	waits = ""
	not("has not been given the first state")
	if len(dp.asked) != 0 {
		t.Errorf("the datapath was asked too early")
	}
	p.realized = engine.RealizedAt(3)
	dp.err = errors.New("a packet was lost")
	not("a packet was lost")
	dp.err = nil
	if err := p.ready(); err != nil {
		t.Error(err)
	}
	if last := dp.asked[len(dp.asked)-1]; len(last) != 1 {
		t.Errorf("proven without the host's addresses: %v", last)
	}
	if err := p.ready(); err != nil || dp.asked[len(dp.asked)-1] != nil {
		t.Errorf("afterwards %v, asked for %v", err, dp.asked)
	}
	dp.err = errors.New("no programs")
	not("no programs")
}
