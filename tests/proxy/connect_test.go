// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/weftmesh/weft/pkg/model"
)

// askH2 sends one request over HTTP/2, with pseudo-headers that no client of Go's would
// send, and gives the status; empty: the stream was reset, or the connection closed.
func askH2(t *testing.T, id model.RulesetID, headers ...hpack.HeaderField) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr(id), soon)
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(soon/4)))
	_, err = c.Write([]byte(http2.ClientPreface))
	ok(t, err)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	ok(t, f.WriteSettings())
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range headers {
		ok(t, e.WriteField(h))
	}
	ok(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: headers[0].Value != http.MethodConnect}))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return ""
		}
		switch x := frame.(type) {
		case *http2.MetaHeadersFrame:
			return x.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return ""
		}
	}
}

// TestAPathDoesNotMakeATunnelARequest: over HTTP/2 a CONNECT may have a path (RFC 8441), and
// is no request for it.
func TestAPathDoesNotMakeATunnelARequest(t *testing.T) {
	newRig(t, backend(t, http.HandlerFunc(echo)), append(paired(3, cart(model.HTTPRule{Path: "/ws"}), items(model.HTTPRule{})),
		grpcRules(4, model.GRPCRule{}), httpRules(5, model.HTTPRule{}), httpRules(6, model.HTTPRule{Method: "CONNECT"}), httpRules(7, model.HTTPRule{Method: "[A-Z]+"}))...)
	for id := model.RulesetID(1); id <= 7; id++ {
		got := askH2(t, id, hpack.HeaderField{Name: ":method", Value: "CONNECT"}, hpack.HeaderField{Name: ":scheme", Value: "http"},
			hpack.HeaderField{Name: ":authority", Value: "db:5432"}, hpack.HeaderField{Name: ":path", Value: "/ws"}, hpack.HeaderField{Name: ":protocol", Value: "bytestream"})
		if got != "403" {
			t.Errorf("ruleset %d: %q", id, got)
		}
		if got := askH2(t, id, hpack.HeaderField{Name: ":method", Value: "CONNECT"}, hpack.HeaderField{Name: ":authority", Value: "db:5432"}); got != "403" {
			t.Errorf("ruleset %d, without a path: %q", id, got)
		}
	}
	if got := askH2(t, 5, hpack.HeaderField{Name: ":method", Value: "GET"}, hpack.HeaderField{Name: ":scheme", Value: "http"},
		hpack.HeaderField{Name: ":authority", Value: "db"}, hpack.HeaderField{Name: ":path", Value: "/ws"}); got == "403" || got == "" {
		t.Errorf("a request: %q", got)
	}
}
