// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

func onHeader(path, name, value string, m model.Mismatch) model.HTTPRule {
	return model.HTTPRule{Path: path, Headers: []model.HeaderMatch{{Name: name, Value: value, Mismatch: m}}}
}

// serverHas asks by ruleset 1, and compares what reached the server: of its answer, or the
// status if it was refused.
func serverHas(t *testing.T, wants map[string]string, of func(answer string) string) {
	t.Helper()
	for text, want := range wants {
		status, got := call(t, request(t, 1, text))
		if status == http.StatusOK {
			got = of(got)
		} else {
			got = fmt.Sprint(status)
		}
		if got != want {
			t.Errorf("%s: the server has %q, want %q", text, got, want)
		}
	}
}

// A server that takes X_Role for X-Role sees nothing of what a rule replaces or removes,
// and no rule is met by one beside the other.
func TestHeadersThatLookAlike(t *testing.T) {
	rs := httpRules(1,
		onHeader("/replaced", "x-role", "user", model.MismatchReplace),
		onHeader("/removed", "x-role", "user", model.MismatchDelete),
		onHeader("/asked", "x_role", "user", model.MismatchDeny),
		onHeader("/long", "a-b-c-d-e-f-g", "user", model.MismatchDeny))
	inEachPlace(t, rs, func(t *testing.T, all []model.Ruleset) {
		newRig(t, backend(t, http.HandlerFunc(echo)), all...)
		serverHas(t, map[string]string{
			"GET /replaced h x-role=admin X_Role=admin":          "X-Role: user",
			"GET /replaced h x-role=user X_Role=admin":           "X-Role: user",
			"GET /removed h x-role=admin X_Role=admin":           "",
			"GET /removed h x-role=user X_Role=admin":            "X-Role: user",
			"GET /asked h x_role=user":                           "X_role: user",
			"GET /asked h x_role=user X-Role=admin":              "403",
			"GET /long h a-b-c-d-e-f-g=user":                     "A-B-C-D-E-F-G: user",
			"GET /long h a-b-c-d-e-f-g=user A-B-C-D-E-F_G=admin": "403",
		}, func(answer string) (got string) {
			for line := range strings.Lines(answer) {
				if name, _, is := strings.Cut(line, ":"); is && (strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "x-role") || strings.HasPrefix(name, "A-B")) {
					got += strings.TrimSpace(line)
				}
			}
			return got
		})
	})
}

// Envoy says x-forwarded-proto where clients do not. Rules are about what clients say.
func TestRulesAboutForwardedProto(t *testing.T) {
	const name = "x-forwarded-proto"
	rs := httpRules(1,
		onHeader("/replaced", name, "https", model.MismatchReplace),
		onHeader("/added", name, "https", model.MismatchAdd),
		onHeader("/removed", name, "https", model.MismatchDelete),
		onHeader("/asked", name, "http", model.MismatchDeny))
	inEachPlace(t, rs, func(t *testing.T, all []model.Ruleset) {
		newRig(t, backend(t, http.HandlerFunc(echo)), all...)
		serverHas(t, map[string]string{
			"GET /replaced h X-Forwarded-Proto=http": "https",
			"GET /replaced h":                        "https",
			"GET /added h":                           "https",
			"GET /removed h X-Forwarded-Proto=evil":  "",
			"GET /removed h X-Forwarded-Proto=https": "https",
			"GET /asked h":                           "403",
			"GET /asked h X-Forwarded-Proto=https":   "403",
			"GET /asked h X-Forwarded-Proto=http":    "http",
		}, func(answer string) string {
			_, got, _ := strings.Cut(answer, "X-Forwarded-Proto: ")
			got, _, _ = strings.Cut(got, "\r\n")
			return got
		})
	})
	t.Run("one side replaces what the other asks for", func(t *testing.T) {
		newRig(t, backend(t, http.HandlerFunc(echo)), paired(3, cart(onHeader("/a", name, "https", model.MismatchReplace)),
			items(onHeader("/a", name, "https", model.MismatchDeny)))...)
		if status, body := call(t, request(t, 3, "GET /a h X-Forwarded-Proto=http")); status != http.StatusOK || !strings.Contains(body, "X-Forwarded-Proto: https\r\n") {
			t.Errorf("%d, %s", status, body)
		}
	})
}

// A record tells of who is connected, whoever the client says it is.
func TestRecordsNameTheClient(t *testing.T) {
	r := newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/allowed"}))
	for i, text := range []string{"GET /allowed h X-Forwarded-For=192.0.2.1", "GET /denied h X-Forwarded-For=192.0.2.1,198.51.100.7", "GET /denied/more h X-Forwarded-For=::1"} {
		if status, _ := call(t, request(t, 1, text)); (status == http.StatusOK) != (i == 0) {
			t.Errorf("%s: %d", text, status)
		}
		path := strings.Fields(text)[1]
		e := r.events.wait(t, path, func(e accesslog.Event) bool { return e.Path == path })
		if e.Source.Addr().String() != "127.0.0.1" || e.Source.Port() == 0 {
			t.Errorf("%s: it is said to be from %s", text, e.Source)
		}
	}
}

// An upgrade that the proxy does not do is not told as allowed.
func TestRecordsOfRefusedUpgrades(t *testing.T) {
	r := newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	got := raw(t, 1, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", "\r\n\r\n")
	if statusOf(got) != "403" {
		t.Errorf("answered with %q", got)
	}
	e := r.events.wait(t, "the request", func(e accesslog.Event) bool { return e.Path == "/a" })
	if e.Verdict.Outcome != xds.Odd || e.Status != http.StatusForbidden {
		t.Errorf("it is told as %+v", e)
	}
}
