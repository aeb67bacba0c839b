// SPDX-License-Identifier: Apache-2.0

// Command weft-cni is the CNI plugin. Container runtimes call it; its input is in
// CNI_* variables and on standard input, as the CNI specification says.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/weftmesh/weft/daemonset/cni/plugin"
)

func main() {
	p := plugin.New(plugin.DefaultTimeouts())
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: p.Add, Del: p.Del, Check: p.Check, GC: p.GC, Status: p.Status,
	}, plugin.Versions(), "weft-cni: the CNI plugin of Weft")
}
