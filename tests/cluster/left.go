// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// podTraces are lines about devices of pods, and about the addresses of pods.
var podTraces = regexp.MustCompile(`(?m)^(link \d+ wf.*|.*[ /]10\.244\..*|.*fd00:10:244:.*)$`)

// leftFiles are what Weft puts on a node.
const leftFiles = "/sys/fs/bpf/weft /run/weft /var/lib/weft/* /etc/cni/net.d/*weft* /opt/cni/bin/weft-cni"

// WithoutWeft returns when nothing of Weft is on the node any more: no program on a
// device, no file or pin, no device of a pod and no route to one. After a few seconds
// the error names what there is.
func (n *Node) WithoutWeft(ctx context.Context) error {
	return within(ctx, 5*time.Second, "nothing of Weft on "+n.Name(), func() error {
		attached, err := n.Attached(ctx)
		if err != nil {
			return err
		}
		files, err := n.Run(ctx, "ls -d "+leftFiles+" 2>/dev/null; true")
		if err != nil {
			return err
		}
		network, err := n.Network(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(network, n.IPv4()) {
			return fmt.Errorf("what is known of the network: %q", network)
		}
		if traces := podTraces.FindAllString(network, -1); attached+files != "" || len(traces) > 0 {
			return fmt.Errorf("left: %s%s%q", attached, files, traces)
		}
		return nil
	})
}
