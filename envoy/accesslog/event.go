// SPDX-License-Identifier: Apache-2.0

// Package accesslog takes what Envoy tells of requests and connections that have
// ended, over gRPC, and makes events of it.
package accesslog

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccessv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
	// upstream_connection_failure, downstream_protocol_error.
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

func fromHTTP(e *dataaccessv3.HTTPAccessLogEntry) Event {
	ev := fromCommon(e.GetCommonProperties())
	req, resp := e.GetRequest(), e.GetResponse()
	ev.Verdict, _ = xds.ParseVerdict(e.GetCommonProperties().GetRouteName())
	ev.First, _ = xds.ParseVerdict(noted(e.GetCommonProperties(), xds.StateVerdict))
	ev.Protocol = protocol(e)
	ev.Host, ev.Status, ev.Detail = req.GetAuthority(), resp.GetResponseCode().GetValue(), resp.GetResponseCodeDetails()
	ev.Path, _, _ = strings.Cut(req.GetPath(), "?")
	if m := req.GetRequestMethod(); m != corev3.RequestMethod_METHOD_UNSPECIFIED {
		ev.Method = m.String()
	}
	ev.BytesReceived = req.GetRequestHeadersBytes() + req.GetRequestBodyBytes()
	ev.BytesSent = resp.GetResponseHeadersBytes() + resp.GetResponseBodyBytes()
	for _, from := range []map[string]string{resp.GetResponseTrailers(), resp.GetResponseHeaders()} {
		if code, err := strconv.Atoi(from["grpc-status"]); err == nil {
			ev.GRPCStatus = code
			break
		}
	}
	return ev
}

func protocol(e *dataaccessv3.HTTPAccessLogEntry) string {
	if strings.HasPrefix(e.GetRequest().GetRequestHeaders()["content-type"], "application/grpc") {
		return "gRPC"
	}
	switch e.GetProtocolVersion() {
	case dataaccessv3.HTTPAccessLogEntry_HTTP10:
		return "HTTP/1.0"
	case dataaccessv3.HTTPAccessLogEntry_HTTP11:
		return "HTTP/1.1"
	case dataaccessv3.HTTPAccessLogEntry_HTTP2:
		return "HTTP/2"
	default:
		return ""
	}
}

func fromTCP(e *dataaccessv3.TCPAccessLogEntry) Event {
	ev := fromCommon(e.GetCommonProperties())
	ev.Verdict, _ = xds.ParseVerdict(noted(e.GetCommonProperties(), xds.StateVerdict))
	ev.Protocol = "TLS"
	ev.ServerName = e.GetCommonProperties().GetTlsProperties().GetTlsSniHostname()
	ev.BytesReceived, ev.BytesSent = e.GetConnectionProperties().GetReceivedBytes(), e.GetConnectionProperties().GetSentBytes()
	return ev
}

func fromCommon(c *dataaccessv3.AccessLogCommon) Event {
	ev := Event{
		Time:        c.GetStartTime().AsTime(),
		Duration:    c.GetTimeToLastDownstreamTxByte().AsDuration(),
		Source:      address(c.GetDownstreamRemoteAddress()),
		Destination: address(c.GetDownstreamLocalAddress()),
		GRPCStatus:  -1,
		Flags:       flags(c.GetResponseFlags()),
		Detail:      c.GetConnectionTerminationDetails(),
	}
	if d := c.GetDuration(); d != nil {
		ev.Duration = d.AsDuration()
	}
	if id, err := strconv.ParseUint(noted(c, xds.StateRuleset), 10, 16); err == nil {
		ev.Ruleset = model.RulesetID(id)
	}
	return ev
}

// noted is what a listener has written down of the connection.
func noted(c *dataaccessv3.AccessLogCommon, key string) string {
	value := new(wrapperspb.StringValue)
	packed := c.GetFilterStateObjects()[key]
	if packed == nil || packed.UnmarshalTo(value) != nil {
		return ""
	}
	return value.Value
}

func address(a *corev3.Address) netip.AddrPort {
	ip, err := netip.ParseAddr(a.GetSocketAddress().GetAddress())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, uint16(a.GetSocketAddress().GetPortValue()))
}

// flags are the names of the fields that are set, sorted.
func flags(f *dataaccessv3.ResponseFlags) (out []string) {
	proto.Message(f).ProtoReflect().Range(func(d protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		out = append(out, string(d.Name()))
		return true
	})
	slices.Sort(out)
	return out
}
