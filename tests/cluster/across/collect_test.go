// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// collectedLate: an identity that only an agent still uses, which does not hear that it
// should not, is not collected; and is, soon after the agent hears of it.
func (c *crowd) collectedLate() {
	c.T.Helper()
	for _, away := range []struct {
		how  string
		from func(n int) (back func())
	}{{"stopped", c.stopAgent}, {"cut off", c.cutOff}} {
		const n, i = 2, 1 // a pod of that node
		alone := strings.ReplaceAll(away.how, " ", "-")
		if err := c.relabel(i, alone); err != nil {
			c.T.Fatal(err)
		}
		c.settled("alone with its labels", c.pods)
		k, err := c.known(c.T.Context())
		if err != nil {
			c.T.Fatal(err)
		}
		number := k.slices[name(i)].identity
		back := away.from(n)
		if err := c.relabel(i, alone+"-no-more"); err != nil {
			c.T.Fatal(err)
		}
		c.kept(number, 3*grace)
		back()
		c.settled("heard of by an agent that was "+away.how, c.pods)
		c.Eventually(time.Minute, "collected", func() error {
			k, err := c.known(c.T.Context())
			if err == nil && k.labels[number] != "" {
				err = fmt.Errorf("identity %d is there still", number)
			}
			return err
		})
		c.T.Logf("with an agent %s, identity %d was kept, and collected later", away.how, number)
	}
}

// kept: an identity is there, for so long.
func (c *crowd) kept(number int, period time.Duration) {
	c.T.Helper()
	for until := time.Now().Add(period); time.Now().Before(until); time.Sleep(300 * time.Millisecond) {
		k, err := c.known(c.T.Context())
		if err != nil {
			c.T.Fatal(err)
		}
		if k.labels[number] == "" {
			c.T.Fatalf("identity %d is gone, and a kernel uses it", number)
		}
	}
}

// stopAgent stops the agent of a node, as if it were very slow.
func (c *crowd) stopAgent(n int) (back func()) {
	c.T.Helper()
	const each = `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != weft-agent ] || kill -%s ${p#/proc/}; done`
	c.On(n, fmt.Sprintf(each, "STOP"))
	return c.Back(func() {
		c.Always(func(ctx context.Context) error { return framework.Said(c.Node(n).Run(ctx, fmt.Sprintf(each, "CONT"))) })
	})
}

// cutOff keeps a node from the API server.
func (c *crowd) cutOff(n int) (back func()) {
	c.T.Helper()
	return c.RouteAway(n, cluster.RouterIPv4+"/32", "10.96.0.1/32")
}
