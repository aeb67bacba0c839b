// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"testing"

	dataaccessv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/proto"
)

// FuzzEntries: whatever is sent becomes an event, with what is lacking empty.
func FuzzEntries(f *testing.F) {
	full, err := proto.Marshal(&dataaccessv3.HTTPAccessLogEntry{
		CommonProperties: &dataaccessv3.AccessLogCommon{RouteName: "allow|K n|r", ResponseFlags: &dataaccessv3.ResponseFlags{NoRouteFound: true}},
		Request:          &dataaccessv3.HTTPRequestProperties{Path: "/a?secret"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add(full)
	f.Fuzz(func(t *testing.T, data []byte) {
		http, tcp := new(dataaccessv3.HTTPAccessLogEntry), new(dataaccessv3.TCPAccessLogEntry)
		if proto.Unmarshal(data, http) == nil {
			ev := fromHTTP(http)
			for _, c := range ev.Path {
				if c == '?' {
					t.Errorf("the query is in the path: %q", ev.Path)
				}
			}
			if http.CommonProperties == nil && (ev.Source.IsValid() || ev.Ruleset != 0 || ev.Flags != nil || ev.Verdict.Outcome != "") {
				t.Errorf("made up: %+v", ev)
			}
		}
		if proto.Unmarshal(data, tcp) == nil && fromTCP(tcp).Protocol != "TLS" {
			t.Error("not TLS")
		}
	})
}
