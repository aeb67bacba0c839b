// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"slices"
	"strings"
	"testing"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/envoy/xds"
)

// record has every field's place filled.
func record(fields map[xds.Field]string) string {
	var all [xds.Fields]string
	for i := range all {
		all[i] = xds.FieldNone
		if text, ok := fields[xds.Field(i)]; ok {
			all[i] = text
		}
	}
	return strings.Join(all[:], xds.FieldSeparator)
}

// TestProtocol: what a request is called does not come from its version alone.
func TestProtocol(t *testing.T) {
	for want, fields := range map[string]map[xds.Field]string{
		"TLS":      {xds.FieldKind: xds.KindTLS},
		"gRPC":     {xds.FieldKind: xds.KindHTTP, xds.FieldProtocol: "HTTP/2", xds.FieldContentType: "application/grpc+proto"},
		"HTTP/1.1": {xds.FieldKind: xds.KindHTTP, xds.FieldProtocol: "HTTP/1.1", xds.FieldContentType: "text/plain"},
		"HTTP/2":   {xds.FieldKind: xds.KindHTTP, xds.FieldProtocol: "HTTP/2", xds.FieldContentType: "application/grpcx"},
		"":         {xds.FieldKind: xds.KindHTTP},
	} {
		if ev := parse(time.Time{}, record(fields)); ev.Protocol != want {
			t.Errorf("%v is %q, want %q", fields, ev.Protocol, want)
		}
	}
}

// TestNumbersHaveBounds: what is too great for its place is not there, and is no other number.
func TestNumbersHaveBounds(t *testing.T) {
	ev := parse(time.Time{}, record(map[xds.Field]string{xds.FieldRuleset: "65537", xds.FieldStatus: "4294967496",
		xds.FieldTook: "99999999999999999999", xds.FieldGRPCStatus: "4294967296"}))
	if ev.Ruleset != 0 || ev.Status != 0 || ev.Duration != 0 || ev.GRPCStatus != -1 {
		t.Errorf("%+v", ev)
	}
}

// request holds records as Envoy sends them.
func request(began time.Time, texts ...string) []byte {
	scope := &logsv1.ScopeLogs{}
	for _, text := range texts {
		scope.LogRecords = append(scope.LogRecords, &logsv1.LogRecord{
			TimeUnixNano: uint64(began.UnixNano()), SeverityNumber: 1, SeverityText: "x", TraceId: []byte{1},
			Body: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: text}}})
	}
	all, err := proto.Marshal(&logsv1.LogsData{ResourceLogs: []*logsv1.ResourceLogs{{Resource: &resourcev1.Resource{}, ScopeLogs: []*logsv1.ScopeLogs{scope}}}})
	if err != nil {
		panic(err)
	}
	return all
}

// TestDecode: each record comes with its time, in order.
func TestDecode(t *testing.T) {
	began := time.Unix(1700000000, 123)
	var got []string
	err := decode(request(began, "a", "", "c\nd"), func(at time.Time, text string) {
		if !at.Equal(began) {
			t.Errorf("%q began %v, want %v", text, at, began)
		}
		got = append(got, text)
	})
	if err != nil || !slices.Equal(got, []string{"a", "", "c\nd"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzRequests: whatever is sent is read to its end, or refused.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(request(time.Unix(1, 2), record(nil), "text"))
	f.Add([]byte{0x0a, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var texts int
		if err := decode(data, func(_ time.Time, text string) { texts += len(text) }); err == nil && texts > len(data) {
			t.Errorf("%d bytes of text from %d", texts, len(data))
		}
	})
}

// FuzzRecords: whatever is sent becomes an event, with what is lacking empty.
func FuzzRecords(f *testing.F) {
	f.Add("")
	f.Add(record(nil))
	f.Add(record(map[xds.Field]string{xds.FieldKind: xds.KindHTTP, xds.FieldRuleset: "7", xds.FieldVerdict: "allow|K n|r", xds.FieldPath: "/a",
		xds.FieldSource: "10.0.0.1:1", xds.FieldDestination: "[fd00::1]:80", xds.FieldTook: "99999999999999999999", xds.FieldFlags: "NoRouteFound,DownstreamProtocolError"}))
	f.Fuzz(func(t *testing.T, text string) {
		ev := parse(time.Time{}, text)
		if ev.Duration < 0 || ev.GRPCStatus < -1 {
			t.Errorf("%+v", ev)
		}
		if !strings.Contains(text, xds.FieldSeparator) && (ev.Source.IsValid() || ev.Ruleset != 0 || ev.Flags != nil || ev.Verdict.Outcome != "" || ev.Path != "") {
			t.Errorf("made up: %+v", ev)
		}
	})
}
