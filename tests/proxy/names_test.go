// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// TestANameThatIsTakenAway ends its own connections, and no others.
func TestANameThatIsTakenAway(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer srv.Close()
	names := func(list ...string) model.Ruleset {
		return model.Ruleset{ID: 1, Rules: []model.RulesetRule{{Policy: policy("api"), Name: "egress[0].toPorts[0]", L7: model.L7{ServerNames: list}}}}
	}
	r, cfg := newSupervised(t, netip.MustParseAddrPort(srv.Listener.Addr().String()), names("b.example", "a.example"))
	a, b := encrypted(t, "a.example"), encrypted(t, "b.example")
	alive := func(c keptOpen) bool {
		got, err := c.get("/")
		return got == 200 && err == nil
	}
	if !alive(a) || !alive(b) {
		t.Fatal("not from the beginning")
	}
	r.update(names("a.example", "c.example"))
	within(t, "the other's connections end", func() bool { return !alive(b) })
	if !alive(encrypted(t, "c.example")) {
		t.Error("a new name does not pass")
	}
	for deadline := time.Now().Add(cfg.Drain + time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if !alive(a) {
			t.Fatal("a connection whose name stays was ended")
		}
	}
}

func encrypted(t *testing.T, name string) keptOpen {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: soon}, "tcp", addr(1), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return keptOpen{c, bufio.NewReader(c)}
}
