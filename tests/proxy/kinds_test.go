// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// TestRequestsEndWhereNamesAreAskedFor: a connection of before the change is there until its
// listener has drained, and what was asked then is not in force any more.
func TestRequestsEndWhereNamesAreAskedFor(t *testing.T) {
	r, _ := newSupervised(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	conn := keepOpen(t, 1)
	if got, err := conn.get("/a"); got != 200 || err != nil {
		t.Fatalf("before: %d, %v", got, err)
	}
	r.update(asking(1, model.L7{ServerNames: []string{"a.example"}}))
	if got, err := conn.get("/a"); got != 403 && err == nil {
		t.Errorf("after: %d", got)
	}
	r.update(httpRules(1, model.HTTPRule{Path: "/a"}))
	if got := get(1, "/a"); got != 200 {
		t.Errorf("when requests are asked for again: %d", got)
	}
}
