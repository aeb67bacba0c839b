// SPDX-License-Identifier: Apache-2.0

//go:build weft_ctalt

package datapath

import (
	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf/ctalt"
)

// conntrackVersion is that of a build for tests, with which an agent of another
// conntrack layout is upgraded from and to.
const conntrackVersion = 900

func loadObject() (*ebpf.CollectionSpec, error) { return ctalt.LoadBpf() }
