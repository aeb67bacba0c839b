// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// serve answers requests in a namespace with the client's address.
func serve(t *testing.T, ns *sandbox.NS, port uint16) {
	t.Helper()
	for network, addr := range map[string]string{"tcp4": "0.0.0.0", "tcp6": "[::]"} {
		ln, err := ns.Listen(network, fmt.Sprintf("%s:%d", addr, port))
		ok(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _ := netip.ParseAddrPort(r.RemoteAddr)
			fmt.Fprint(w, from.Addr())
		})}
		go srv.Serve(ln) //nolint:errcheck // it ends with the test
		t.Cleanup(func() { _ = srv.Close() })
	}
}

// client calls from a namespace; it keeps its connections.
func client(t *testing.T, ns *sandbox.NS) *http.Client {
	tr := &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return ns.Dial(network, addr, atOnce)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 3 * time.Second}
}

// get gives the status of a request, and what came with it.
func get(c *http.Client, url string) (int, string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// answers asserts what a request brings.
func answers(t *testing.T, c *http.Client, url string, status int, body string) {
	t.Helper()
	got, text, err := get(c, url)
	if err != nil || got != status || text != body {
		t.Errorf("GET %s: %d %q, %v; want %d %q", url, got, text, err, status, body)
	}
}
