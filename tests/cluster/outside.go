// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

const outside = "outside"

// startOutside starts the world: a host that is no part of the cluster and knows no
// way to pods. It answers on ports 8080 (HTTP; /clientip says who asks) and 8081 (UDP).
func (c *Cluster) startOutside(controlPlanePID int) error {
	spec := machine.Spec{Hostname: outside, Bound: c.bound, Services: []machine.Service{
		{Name: "netexec", Args: []string{c.tools.path("agnhost"), "netexec", "--http-port=8080", "--udp-port=8081"}}}}
	return machine.Start(c.at.machine(outside), c.binary(), spec, nil,
		func(pid int) error { return worldCable().lay(controlPlanePID, pid) })
}

// Outside runs a command on the host outside; its output is both streams.
func (c *Cluster) Outside(ctx context.Context, command string) (string, error) {
	return c.runOn(ctx, outside, nil, "sh", "-c", command)
}
