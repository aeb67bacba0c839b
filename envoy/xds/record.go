// SPDX-License-Identifier: Apache-2.0

package xds

import "strings"

// Field is a place in a Record.
type Field int

// What Envoy tells of a request or connection that has ended. What a client chooses
// comes after what tells of it, and nothing of it can hold an end of line: no field of
// HTTP can (RFC 9110, section 5.5), nor can a name in TLS.
const (
	FieldKind            Field = iota // KindHTTP or KindTLS
	FieldRuleset                      // its number
	FieldVerdict                      // what decided
	FieldFirst                        // of a pair's request what its first ruleset decided
	FieldSource                       // the client
	FieldDestination                  // where the client wanted to
	FieldTook                         // microseconds, from the first byte that came to the last that was sent
	FieldFlags                        // of the response, in Envoy's words, with commas between
	FieldReceived                     // bytes of bodies or connections, from the client
	FieldSent                         // the same, to the client
	FieldReceivedHeaders              // bytes
	FieldSentHeaders
	FieldStatus      // of HTTP
	FieldProtocol    // HTTP/1.1
	FieldGRPCStatus  // of the trailers
	FieldGRPCRefusal // of the headers, where an answer has nothing else
	FieldMethod
	FieldHost
	FieldPath // without the query, which may hold what is secret
	FieldContentType
	FieldServerName // of TLS
	FieldDetail     // of the response or of the connection's end, in Envoy's words
	Fields          // their number
)

// Kinds of records.
const (
	KindHTTP = "http"
	KindTLS  = "tls"
)

const (
	// FieldSeparator is between the fields of a record.
	FieldSeparator = "\n"
	// FieldNone is in the place of what there is not.
	FieldNone = "-"
)

// recordFormat has Envoy write a record, as one text: to fill in all that Envoy can say of
// a request in messages takes it several times as long.
func recordFormat(kind string) string {
	commands := [Fields]string{
		FieldKind:            kind,
		FieldRuleset:         "%FILTER_STATE(" + StateRuleset + ":PLAIN)%",
		FieldVerdict:         "%ROUTE_NAME%",
		FieldFirst:           "%FILTER_STATE(" + StateVerdict + ":PLAIN)%",
		FieldSource:          "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", // the other one is what x-forwarded-for says
		FieldDestination:     "%DOWNSTREAM_LOCAL_ADDRESS%",
		FieldTook:            "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
		FieldFlags:           "%RESPONSE_FLAGS_LONG%",
		FieldReceived:        "%BYTES_RECEIVED%",
		FieldSent:            "%BYTES_SENT%",
		FieldReceivedHeaders: "%REQUEST_HEADERS_BYTES%",
		FieldSentHeaders:     "%RESPONSE_HEADERS_BYTES%",
		FieldStatus:          "%RESPONSE_CODE%",
		FieldProtocol:        "%PROTOCOL%",
		FieldGRPCStatus:      "%TRAILER(grpc-status)%",
		FieldGRPCRefusal:     "%RESP(grpc-status)%",
		FieldMethod:          "%REQ(:method)%",
		FieldHost:            "%REQ(:authority)%",
		FieldPath:            "%PATH(NQ:PATH)%",
		FieldContentType:     "%REQ(content-type)%",
		FieldServerName:      FieldNone,
		FieldDetail:          "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%",
	}
	if kind == KindTLS {
		commands[FieldVerdict], commands[FieldFirst] = commands[FieldFirst], FieldNone
		commands[FieldTook] = "%DURATION%000" // Envoy has it in milliseconds
		for f := FieldReceivedHeaders; f <= FieldContentType; f++ {
			commands[f] = FieldNone
		}
		commands[FieldServerName] = "%REQUESTED_SERVER_NAME%"
		commands[FieldDetail] = "%CONNECTION_TERMINATION_DETAILS%"
	}
	return strings.Join(commands[:], FieldSeparator)
}
