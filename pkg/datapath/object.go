// SPDX-License-Identifier: Apache-2.0

//go:build !weft_ctalt && !weft_progalt

package datapath

import (
	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// conntrackVersion is the layout of struct weft_ct and its keys.
const conntrackVersion = 1

func loadObject() (*ebpf.CollectionSpec, error) { return weftbpf.LoadBpf() }
