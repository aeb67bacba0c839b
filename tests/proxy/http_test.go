// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

func policy(name string) model.PolicyKey {
	return model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "shop", Name: name}
}

func httpRules(id model.RulesetID, rules ...model.HTTPRule) model.Ruleset {
	return asking(id, model.L7{HTTP: rules})
}

func grpcRules(id model.RulesetID, rules ...model.GRPCRule) model.Ruleset {
	return asking(id, model.L7{GRPC: rules})
}

// asking is a ruleset of one rule.
func asking(id model.RulesetID, l7 model.L7) model.Ruleset {
	return model.Ruleset{ID: id, Rules: []model.RulesetRule{{Policy: policy("api"), Name: "ingress[0].toPorts[0]", L7: l7}}}
}

// echo answers with the request as it came.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Server", "echo")
	fmt.Fprintf(w, "%s %s %s %s\n", r.Method, r.RequestURI, r.Host, r.Proto)
	_ = r.Header.Write(w)
}

func call(t testing.TB, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ok(t, err)
	return resp.StatusCode, string(body)
}

// request is "METHOD PATH HOST header=value …" for a ruleset.
func request(t testing.TB, id model.RulesetID, text string) *http.Request {
	t.Helper()
	f := strings.Fields(text)
	req, err := http.NewRequest(f[0], "http://"+addr(id)+f[1], nil)
	ok(t, err)
	if len(f) > 2 {
		req.Host = f[2]
	}
	for _, h := range f[min(3, len(f)):] {
		name, value, _ := strings.Cut(h, "=")
		req.Header.Add(name, value)
	}
	return req
}

func TestEveryMatch(t *testing.T) {
	r := newRig(t, backend(t, http.HandlerFunc(echo)),
		httpRules(1, model.HTTPRule{Method: "GET", Path: "/public/.*"},
			model.HTTPRule{Method: "PUT|DELETE", Path: "/v[0-9]+/items"},
			model.HTTPRule{Path: "/only", Host: `shop\.example`},
			model.HTTPRule{Path: "/head", Headers: []model.HeaderMatch{{Name: "x-role", Value: "admin"}, {Name: "x-team"}}}),
		httpRules(2, model.HTTPRule{Method: "POST"}),
		httpRules(3, model.HTTPRule{}),
		model.Ruleset{ID: 4})
	for _, c := range []struct {
		id   model.RulesetID
		text string
		want int
	}{
		{1, "GET /public/", 200}, {1, "GET /public/a/b?q=/private", 200}, {1, "GET /public", 403}, {1, "POST /public/a", 403},
		{1, "GET /Public/a", 403}, {1, "GET /x?y=/public/a", 403}, {1, "get /public/a", 400},
		{1, "PUT /v1/items", 200}, {1, "DELETE /v22/items", 200}, {1, "PUT /v1/items/", 403}, {1, "PUT /x/v1/items", 403},
		{1, "GET /only shop.example", 200}, {1, "GET /only SHOP.example:8080", 200}, {1, "GET /only shopxexample", 403}, {1, "GET /only a.shop.example", 403},
		{1, "GET /head h x-role=admin x-team=", 200}, {1, "GET /head h x-role=admin", 403}, {1, "GET /head h x-role=user x-team=a", 403},
		{1, "GET /head h x-role=admin x-role=user x-team=a", 403}, {1, "GET /head h x-role=admin x-team=a X_Role=user", 403},
		{1, "GET /public/../private", 403}, {1, "GET /public/%2e%2e/private", 403}, {1, "GET /public/..%2fprivate", 400},
		{1, "GET /public/a%5cb", 400}, {1, "GET /public/..;/private", 403}, {1, "GET /public/%2E.;x=1/private", 403}, {1, "GET /public/..%3Bx/private", 403}, {1, "GET /public/a;b/c..;?q=/..;", 200},
		{1, "GET /private/../public/a", 200}, {1, "GET //public//a", 200}, {1, "GET /./public/a", 200},
		{2, "POST /anything", 200}, {2, "GET /anything", 403}, {3, "OPTIONS /x", 200}, {4, "GET /", 403},
	} {
		if got, body := call(t, request(t, c.id, c.text)); got != c.want {
			t.Errorf("ruleset %d: %s: %d, want %d: %s", c.id, c.text, got, c.want, body)
		}
	}
	six, err := http.NewRequest("GET", fmt.Sprintf("http://[::1]:%d/public/six", model.ProxyPort(0, 1)), nil)
	ok(t, err)
	if got, body := call(t, six); got != 200 {
		t.Errorf("by IPv6: %d: %s", got, body)
	}
	_, body := call(t, request(t, 1, "GET /private"))
	if want := "denied by policy: WeftNetworkPolicy shop/api"; body != want {
		t.Errorf("a refusal says %q, want %q", body, want)
	}
	ev := r.events.wait(t, "the denied request", func(e accesslog.Event) bool { return e.Path == "/private" })
	if ev.Verdict.Outcome != xds.Denied || ev.Status != 403 || ev.Ruleset != 1 || ev.Method != "GET" || ev.Protocol != "HTTP/1.1" {
		t.Errorf("event %+v", ev)
	}
	ev = r.events.wait(t, "a request that passed", func(e accesslog.Event) bool { return e.Path == "/v22/items" })
	want := xds.Verdict{Outcome: xds.Allowed, Policy: policy("api"), Rule: "ingress[0].toPorts[0].http[1]"}
	if fmt.Sprint(ev.Verdict) != fmt.Sprint(want) || ev.Status != 200 || !ev.Source.IsValid() || ev.Duration <= 0 || ev.BytesSent == 0 {
		t.Errorf("event %+v", ev)
	}
}

// TestMismatchActions: the rule matches, and something is done about the header.
func TestMismatchActions(t *testing.T) {
	header := func(m model.Mismatch) []model.HeaderMatch {
		return []model.HeaderMatch{{Name: "x-h", Value: "50%", Mismatch: m}}
	}
	r := newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1,
		model.HTTPRule{Path: "/log", Headers: header(model.MismatchLog)},
		model.HTTPRule{Path: "/add", Headers: header(model.MismatchAdd)},
		model.HTTPRule{Path: "/delete", Headers: header(model.MismatchDelete)},
		model.HTTPRule{Path: "/replace", Headers: header(model.MismatchReplace)},
		model.HTTPRule{Path: "/two", Headers: []model.HeaderMatch{
			{Name: "x-a", Value: "1", Mismatch: model.MismatchAdd}, {Name: "x-b", Value: "2", Mismatch: model.MismatchDelete}}}))
	for _, c := range []struct{ text, want string }{
		{"GET /log h", ""}, {"GET /log h x-h=1", "1"}, {"GET /log h x-h=50%", "50%"},
		{"GET /add h", "50%"}, {"GET /add h x-h=1", "1,50%"}, {"GET /add h x-h=50%", "50%"},
		{"GET /delete h", ""}, {"GET /delete h x-h=1", ""}, {"GET /delete h x-h=50%", "50%"},
		{"GET /replace h", "50%"}, {"GET /replace h x-h=1 x-h=2", "50%"}, {"GET /replace h x-h=50%", "50%"},
		{"GET /two h x-b=2", "|1|2"}, {"GET /two h x-a=1 x-b=3", "|1|"}, {"GET /two h x-a=0 x-b=2", "|0,1|2"},
	} {
		status, body := call(t, request(t, 1, c.text))
		got := values(body, "X-H")
		if strings.HasPrefix(c.want, "|") {
			got += "|" + values(body, "X-A") + "|" + values(body, "X-B")
		}
		if status != 200 || got != c.want {
			t.Errorf("%s: %d, the server saw %q, want %q", c.text, status, got, c.want)
		}
	}
	r.events.wait(t, "a mismatch", func(e accesslog.Event) bool {
		return e.Path == "/log" && fmt.Sprint(e.Verdict.Mismatch) == "[x-h]"
	})
}

// values of a header in what echo says.
func values(body, name string) string {
	var out []string
	for line := range strings.Lines(body) {
		if v, is := strings.CutPrefix(line, name+": "); is {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return strings.Join(out, ",")
}

// TestServersSeeWhatClientsSend: Envoy adds nothing, and takes nothing away.
func TestServersSeeWhatClientsSend(t *testing.T) {
	newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{}))
	req := request(t, 1, "GET /a?b=c h x-weft-forwarded-proto=evil x-forwarded-for=1.2.3.4 x-request-id=id x-envoy-max-retries=9 x_under=1")
	req.Header.Set("User-Agent", "test")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ok(t, err)
	want := "GET /a?b=c h HTTP/1.1\nAccept-Encoding: identity\r\nUser-Agent: test\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: id\r\nX_under: 1\r\n"
	if string(body) != want {
		t.Errorf("the server saw\n%s\nwant\n%s", body, want)
	}
	for name := range resp.Header {
		switch name {
		case "Server", "Date", "Content-Type", "Content-Length":
		default:
			t.Errorf("the client got the header %s: %v", name, resp.Header[name])
		}
	}
	if _, body := call(t, request(t, 1, "GET / h x-forwarded-proto=https")); values(body, "X-Forwarded-Proto") != "https" {
		t.Errorf("the server saw %s", body)
	}
	if resp.Header.Get("Server") != "echo" {
		t.Errorf("server: %s", resp.Header.Get("Server"))
	}
}
