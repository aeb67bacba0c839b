// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"slices"
	"testing"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// TestFewRecords: of requests that are allowed only some are told, of others all.
func TestFewRecords(t *testing.T) {
	audit := httpRules(2, model.HTTPRule{Path: "/allowed"})
	audit.Audit = true
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.HandleFunc("/allowed/fails", http.NotFound)
	r := newRigWith(t, xds.Options{Backend: backend(t, mux), LogEvery: 1000000},
		httpRules(1, model.HTTPRule{Path: "/allowed.*"},
			model.HTTPRule{Path: "/mismatch", Headers: []model.HeaderMatch{{Name: "x-a", Value: "1", Mismatch: model.MismatchLog}}}), audit)
	told := []string{"/denied", "/audited", "/mismatch", "/allowed/fails"}
	for range 20 {
		call(t, request(t, 1, "GET /allowed"))
		call(t, request(t, 1, "GET /mismatch h x-a=1"))
	}
	for i, path := range told {
		call(t, request(t, []model.RulesetID{1, 2, 1, 1}[i], "GET "+path))
	}
	for _, path := range told {
		r.events.wait(t, path, func(e accesslog.Event) bool { return e.Path == path })
	}
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	if silent := slices.IndexFunc(r.events.all, func(e accesslog.Event) bool {
		return e.Verdict.Outcome == xds.Allowed && e.Status == 200 && e.Verdict.Mismatch == nil
	}); silent >= 0 {
		t.Errorf("event %+v", r.events.all[silent])
	}
}

// TestRecordsOfOddText: what a client sends in no known encoding takes nobody's record away.
func TestRecordsOfOddText(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	r := newRig(t, backend(t, mux), httpRules(1, model.HTTPRule{Path: "/.*"}))
	paths := []string{"/before", "/odd", "/after"}
	for _, path := range paths {
		kind := "text/plain"
		if path == "/odd" {
			kind = "\xff\xfe\t-"
		}
		if got := raw(t, 1, "GET "+path+" HTTP/1.1\r\nHost: h\r\nContent-Type: "+kind+"\r\nConnection: close\r\n\r\n", ""); statusOf(got) != "200" {
			t.Errorf("%s: %q", path, got)
		}
	}
	for _, path := range paths {
		r.events.wait(t, path, func(e accesslog.Event) bool { return e.Path == path })
	}
}
