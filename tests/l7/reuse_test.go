// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// callOnce calls, asks the proxy to close first, and tells how long it took to connect.
func (p *pod) callOnce(addr string) (time.Duration, error) {
	start := time.Now()
	conn, err := p.ns.Dial("tcp", addr, soon)
	took := time.Since(start)
	if err != nil {
		return took, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		return took, err
	}
	if _, err := io.WriteString(conn, "GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return took, err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 403") {
		err = fmt.Errorf("the answer is %q", answer)
	}
	return took, err
}

// The ports of clients come round while the proxy's sockets still wait for the end of
// their time. A SYN that is lost comes again after a second.
func TestNoCallIsLostWherePortsComeRound(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		local, remote, server := c.nodes[1].pod(alice), c.nodes[0].pod(alice), c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		server.policy(rule(model.Ingress, alice, 1))
		c.nodes[1].envoy(map[model.RulesetID]string{1: "/a"})
		for _, p := range []*pod{local, remote} {
			ok(t, p.ns.TakePorts(50000, 50099))
			slow := 0
			for i := range 400 {
				took, err := p.callOnce(server.at(i%2, 80))
				if err != nil {
					t.Fatalf("call %d from %s: %v", i, p.ns.Name, err)
				}
				if took > 900*time.Millisecond {
					slow++
				}
			}
			if slow > 0 {
				t.Errorf("of 400 calls from %s %d took a second or more", p.ns.Name, slow)
			}
		}
	})
}
