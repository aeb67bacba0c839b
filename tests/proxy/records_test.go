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
