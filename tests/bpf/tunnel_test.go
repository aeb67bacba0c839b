// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const tunnelPort = 4789

func withTunnel(c *weftbpf.BpfWeftConfig) { c.TunnelPort = tunnelPort }

func TestProgramsLoadWithATunnel(t *testing.T) {
	load(t, withTunnel)
}
