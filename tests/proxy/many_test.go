// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
)

// keptOpen is a connection on which one request follows another.
type keptOpen struct {
	net.Conn
	in *bufio.Reader
}

func keepOpen(t *testing.T, id model.RulesetID) keptOpen {
	t.Helper()
	c, err := net.Dial("tcp", addr(id))
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return keptOpen{c, bufio.NewReader(c)}
}

func (k keptOpen) get(path string) (int, error) {
	if err := k.SetDeadline(time.Now().Add(soon)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(k, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestManyConnections that stay open, through a change of the rules.
func TestManyConnections(t *testing.T) {
	r, _ := newSupervised(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a|/b"}))
	conns := make([]keptOpen, level.Scale(5000))
	for i := range conns {
		conns[i] = keepOpen(t, 1)
	}
	for _, path := range []string{"/a", "/b"} {
		for i, c := range conns {
			if got, err := c.get(path); got != 200 || err != nil {
				t.Fatalf("connection %d: %s: %d, %v", i, path, got, err)
			}
		}
		r.update(httpRules(1, model.HTTPRule{Path: "/b"}))
	}
	for i, c := range conns {
		if got, err := c.get("/a"); got != 403 || err != nil {
			t.Fatalf("connection %d after the change: %d, %v", i, got, err)
		}
	}
}

// TestSlowClients have the time that they take.
func TestSlowClients(t *testing.T) {
	newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/slow"}))
	c := keepOpen(t, 1)
	const text = "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789"
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range len(text) {
		_, err := c.Write([]byte{text[i]})
		ok(t, err)
		<-tick.C
	}
	resp, err := http.ReadResponse(c.in, nil)
	ok(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("a slow request: %s", resp.Status)
	}
}
