// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

// A stranger is plugged into the network of the nodes and is none of them.
const (
	stranger     = "stranger"
	StrangerIPv4 = "172.30.0.99"
	StrangerIPv6 = "fd00:172:30::99"
)

// StartStranger starts it; it goes with the cluster.
func (c *Cluster) StartStranger() error {
	control, err := machine.PID1(c.at.machine(controlPlane))
	if err != nil {
		return err
	}
	if _, err := machine.PID1(c.at.machine(stranger)); err == nil {
		return nil
	}
	cable := cable{name: stranger, peer: []string{StrangerIPv4 + "/24", StrangerIPv6 + "/64"}, gateways: []string{controlPlaneIPv4, controlPlaneIPv6}}
	if err := machine.Start(c.at.machine(stranger), c.binary(), machine.Spec{Hostname: stranger, Bound: c.bound}, nil,
		func(pid int) error { return cable.lay(control.PID, pid) }); err != nil {
		return fmt.Errorf("starting the stranger: %w", err)
	}
	return nil
}

// Stranger runs a command there; its output is both streams.
func (c *Cluster) Stranger(ctx context.Context, command string) (string, error) {
	return c.runOn(ctx, stranger, nil, "sh", "-c", command)
}

// Router runs a command where the API server is, which is also the router between the
// nodes and the world.
func (c *Cluster) Router(ctx context.Context, command string) (string, error) {
	return c.runOn(ctx, controlPlane, nil, "sh", "-c", command)
}
