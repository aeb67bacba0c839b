// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/weftmesh/weft/tests/level"
)

// TestManyConnectionsStayOpen through the kernel's hand-over, a change of the rules and
// an agent that is killed and comes back.
func TestManyConnectionsStayOpen(t *testing.T) {
	n := newLoaded(t)
	n.write("web.yaml", fmt.Sprintf(requestPolicy, "/b"))
	n.envoyReady()
	conns := make([]net.Conn, level.Scale(5000))
	for i := range conns {
		var err error
		conns[i], err = n.a.NS.Dial("tcp", hostPort(addrs(n.web)[i%2], 8080), requestTimeout)
		ok(t, err)
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	each := func(when, path string, want int) {
		t.Helper()
		bad := 0
		for i, c := range conns {
			if status, err := rawGet(c, path); status != want || err != nil {
				if bad++; bad <= 3 {
					t.Errorf("%s, connection %d to %s: %s: %d, %v; want %d", when, i, c.RemoteAddr(), path, status, err, want)
				}
			}
		}
		if bad > 0 {
			t.Fatalf("%s, %d of %d connections are not as they should be", when, bad, len(conns))
		}
	}
	before := dropped(t)
	each("at first", "/a", http.StatusOK)
	n.write("web.yaml", fmt.Sprintf(loadPolicy, "/other"))
	n.envoyReady()
	ok(t, n.agent.Kill())
	each("without the agent", denied, http.StatusForbidden)
	n.startAgent("weft-agent")
	n.write("web.yaml", fmt.Sprintf(requestPolicy, "/b"))
	n.envoyReady()
	each("after all", "/a", http.StatusOK)
	n.nothingDropped(before)
}
