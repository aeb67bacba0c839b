// SPDX-License-Identifier: Apache-2.0

// Package accesslog takes what Envoy tells of requests and connections that have
// ended, over gRPC, and makes events of it.
package accesslog

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// Event is a request, or a connection that is no HTTP, that has ended.
type Event struct {
	Time     time.Time
	Duration time.Duration
	Ruleset  model.RulesetID // 0: unknown
	Verdict  xds.Verdict     // what decided; no outcome: what was sent could not be read
	// First is of a pair's request: what its first ruleset decided. Where that let it
	// pass, Verdict is the second one's.
	First  xds.Verdict
	Source netip.AddrPort // the client
	// Destination is where the client wanted to.
	Destination netip.AddrPort
	Protocol    string // HTTP/1.0, HTTP/1.1, HTTP/2, gRPC, TLS
	Method      string
	Path        string // without the query, which may hold what is secret
	Host        string
	ServerName  string // of TLS
	Status      uint32 // of HTTP; 0: there was no answer
	GRPCStatus  int    // -1: not gRPC, or none
	// Flags are what Envoy has to say of the response, in its words:
	// UpstreamConnectionFailure, DownstreamProtocolError.
	Flags         []string
	Detail        string // of the response, in Envoy's words
	BytesReceived uint64 // from the client
	BytesSent     uint64 // to the client
}

// Verdicts are those of the rulesets that were asked, in their order: of a pair two, unless
// the first did not let the request pass.
func (e Event) Verdicts() []xds.Verdict {
	switch e.First.Outcome {
	case xds.Allowed, xds.Audited, xds.Open:
		return []xds.Verdict{e.First, e.Verdict}
	}
	return []xds.Verdict{e.Verdict}
}

// parse reads a record; what is not there, or is no number, is empty.
func parse(began time.Time, record string) Event {
	record = strings.ToValidUTF8(record, "\uFFFD")
	var field [xds.Fields]string
	for i := range field {
		var text string
		text, record, _ = strings.Cut(record, xds.FieldSeparator)
		if text != xds.FieldNone {
			field[i] = text
		}
	}
	number := func(f xds.Field, bits int) uint64 {
		n, err := strconv.ParseUint(field[f], 10, bits)
		if err != nil {
			return 0
		}
		return n
	}
	ev := Event{
		Time:          began,
		Duration:      time.Duration(number(xds.FieldTook, tookBits)) * time.Microsecond,
		Ruleset:       model.RulesetID(number(xds.FieldRuleset, 16)),
		Source:        address(field[xds.FieldSource]),
		Destination:   address(field[xds.FieldDestination]),
		Protocol:      protocol(field),
		Method:        field[xds.FieldMethod],
		Path:          field[xds.FieldPath],
		Host:          field[xds.FieldHost],
		ServerName:    field[xds.FieldServerName],
		Status:        uint32(number(xds.FieldStatus, 32)),
		GRPCStatus:    -1,
		Detail:        field[xds.FieldDetail],
		BytesReceived: number(xds.FieldReceivedHeaders, 64) + number(xds.FieldReceived, 64),
		BytesSent:     number(xds.FieldSentHeaders, 64) + number(xds.FieldSent, 64),
	}
	ev.Verdict, _ = xds.ParseVerdict(field[xds.FieldVerdict])
	ev.First, _ = xds.ParseVerdict(field[xds.FieldFirst])
	if ev.Detail == upgradeRefused { // whatever the rules say
		ev.Verdict, ev.First = xds.Verdict{Outcome: xds.Odd}, xds.Verdict{}
	}
	if field[xds.FieldFlags] != "" {
		ev.Flags = strings.Split(field[xds.FieldFlags], ",")
	}
	for _, f := range []xds.Field{xds.FieldGRPCStatus, xds.FieldGRPCRefusal} {
		if code, err := strconv.ParseUint(field[f], 10, 31); err == nil {
			ev.GRPCStatus = int(code)
			break
		}
	}
	return ev
}

// upgradeRefused is what Envoy says of an upgrade that it does not do.
const upgradeRefused = "upgrade_failed"

// tookBits of microseconds are nine years, which a duration can hold.
const tookBits = 48

func protocol(field [xds.Fields]string) string {
	switch {
	case field[xds.FieldKind] == xds.KindTLS:
		return "TLS"
	case isGRPC(field[xds.FieldContentType]):
		return "gRPC"
	}
	return field[xds.FieldProtocol]
}

// isGRPC: application/grpc, also with the form of messages or with parameters.
func isGRPC(contentType string) bool {
	rest, is := strings.CutPrefix(contentType, "application/grpc")
	return is && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// address is none where Envoy had none.
func address(text string) netip.AddrPort {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}
