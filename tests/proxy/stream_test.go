// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
)

// raw sends text as it is and gives what comes back until the other side closes, or
// is silent after the end that is wanted.
func raw(t *testing.T, id model.RulesetID, text, end string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr(id))
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(soon)))
	_, err = io.WriteString(c, text)
	ok(t, err)
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for end == "" || !strings.Contains(got.String(), end) {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return got.String()
}

func statusOf(answer string) string {
	f := strings.Fields(answer)
	if len(f) < 2 {
		return answer
	}
	return f[1]
}

// TestWhatIsOdd: requests that were made to be read in two ways, and what is no HTTP.
func TestWhatIsOdd(t *testing.T) {
	inEachPlace(t, httpRules(1, model.HTTPRule{Method: "GET|POST", Path: "/ok"}), whatIsOdd)
}

func whatIsOdd(t *testing.T, rulesets []model.Ruleset) {
	seen := make(chan string, 100)
	r := newRig(t, backend(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen <- q.RequestURI
		echo(w, q)
	})), rulesets...)
	const admin = "GET /admin HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct{ name, text, want string }{
		{"length and chunks", "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + admin, "400"},
		{"two lengths", "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n" + admin, "400"},
		{"odd coding", "POST /ok HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + admin, "501"},
		{"space before the colon", "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length : 4\r\n\r\nabcd", "400"},
		{"no host", "GET /ok HTTP/1.1\r\n\r\n", "400"},
		{"upgrade to HTTP/2", "GET /admin HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "403"},
		{"another upgrade", "GET /ok HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", "403"},
		{"connect", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", "403"},
		{"a whole address", "GET http://h/admin HTTP/1.1\r\nHost: h\r\n\r\n", "403"},
		{"all paths", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "404"},
		{"fragment", "GET /ok#/../admin HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"null", "GET /ok%00 HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"no HTTP", "HELO example.com\r\n", "400"},
		{"binary", "\x00\x01\x02\x03\x04\x05\x06\x07\r\n\r\n", "400"},
	} {
		if got := raw(t, 1, c.text, "\r\n\r\n"); statusOf(got) != c.want {
			t.Errorf("%s: %q, want %s", c.name, got, c.want)
		}
	}
	for len(seen) > 0 {
		if uri := <-seen; uri != "/ok" {
			t.Errorf("the server got %s", uri)
		}
	}
	ev := r.events.wait(t, "no HTTP", func(e accesslog.Event) bool {
		return e.Verdict.Outcome == "" && strings.HasPrefix(e.Detail, "http1.codec_error")
	})
	if ev.Ruleset != 1 || ev.Status != 400 || !slices.Contains(ev.Flags, "DownstreamProtocolError") {
		t.Errorf("event %+v", ev)
	}
	if got := raw(t, 1, "GET /ok HTTP/1.0\r\n\r\n", ""); statusOf(got) != "200" || !strings.Contains(got, "GET /ok") {
		t.Errorf("HTTP/1.0: %q", got)
	}
}

// TestStreams: WebSocket, trailers, 100-continue and large bodies go through.
func TestStreams(t *testing.T) {
	inEachPlace(t, httpRules(1, model.HTTPRule{Path: "/ws|/sum"}), streams)
}

func streams(t *testing.T, rulesets []model.Ruleset) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", talk)
	mux.HandleFunc("/sum", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		h := sha256.New()
		n, _ := io.Copy(h, q.Body)
		fmt.Fprint(w, n)
		w.Header().Set("X-Sum", hex.EncodeToString(h.Sum(nil))+q.Trailer.Get("X-Asked"))
	})
	newRig(t, backend(t, mux), rulesets...)

	c, err := net.Dial("tcp", addr(1))
	ok(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	ok(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("WebSocket: %s", resp.Status)
	}
	for _, word := range []string{"one", "two"} {
		fmt.Fprintln(c, word)
		if line, err := in.ReadString('\n'); err != nil || line != word+"\n" {
			t.Errorf("WebSocket: %q, %v", line, err)
		}
	}
	size := int64(level.Scale(100)) << 20
	for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2": h2()} {
		sum := sha256.New()
		req, err := http.NewRequest("POST", "http://"+addr(1)+"/sum", io.TeeReader(io.LimitReader(rand.Reader, size), sum))
		ok(t, err)
		req.Trailer = http.Header{"X-Asked": {"asked"}}
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		ok(t, err)
		body, err := io.ReadAll(resp.Body)
		ok(t, err)
		_ = resp.Body.Close()
		if got, want := resp.Trailer.Get("X-Sum"), hex.EncodeToString(sum.Sum(nil))+"asked"; got != want || string(body) != fmt.Sprint(size) || resp.Proto[:6] != name[:6] {
			t.Errorf("%s: %s bytes of %d, trailer %q, want %q", name, body, size, got, want)
		}
	}
}

// talk answers each line with itself, after an upgrade.
func talk(w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

func h2() *http.Client {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: only}}
}

// TestServerNames: TLS goes through untouched if its name is allowed.
func TestServerNames(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer srv.Close()
	names := func(id model.RulesetID, list ...string) model.Ruleset {
		return model.Ruleset{ID: id, Rules: []model.RulesetRule{{Policy: policy("api"), Name: "egress[0].toPorts[0]", L7: model.L7{ServerNames: list}}}}
	}
	mixed := names(3, "a.example")
	mixed.Rules = append(mixed.Rules, httpRules(3, model.HTTPRule{Path: "/none"}).Rules...)
	audit := names(2, "a.example")
	audit.Audit = true
	r := newRig(t, netip.MustParseAddrPort(srv.Listener.Addr().String()), names(1, "API.example", "*.example.org"), audit, mixed)
	for _, c := range []struct {
		id   model.RulesetID
		name string
		want bool
	}{
		{1, "api.example", true}, {1, "API.EXAMPLE", true}, {1, "x.example.org", true}, {1, "x.y.example.org", false},
		{1, "example.org", false}, {1, "other", false}, {1, "", false}, {2, "other", true}, {3, "a.example", true}, {3, "b.example", false},
	} {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: soon}, "tcp", addr(c.id), &tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != c.want {
			t.Errorf("ruleset %d: %q: %v, want %v", c.id, c.name, err, c.want)
		}
	}
	if got := raw(t, 1, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", ""); got != "" {
		t.Errorf("what is no TLS got %q", got)
	}
	if got := raw(t, 3, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n"); statusOf(got) != "403" {
		t.Errorf("HTTP beside TLS got %q", got)
	}
	ev := r.events.wait(t, "an allowed name", func(e accesslog.Event) bool { return e.ServerName == "x.example.org" })
	if ev.Verdict.Outcome != xds.Allowed || ev.Verdict.Rule != "egress[0].toPorts[0].serverNames[*.example.org]" || ev.Ruleset != 1 || ev.Protocol != "TLS" {
		t.Errorf("event %+v", ev)
	}
	r.events.wait(t, "a denied name", func(e accesslog.Event) bool { return e.ServerName == "other" && e.Verdict.Outcome == xds.Denied })
	r.events.wait(t, "an audited name", func(e accesslog.Event) bool { return e.ServerName == "other" && e.Verdict.Outcome == xds.Audited })
}
