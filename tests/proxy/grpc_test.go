// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// grpcEcho answers each message of every method with itself; with fail in it the
// call ends with a status.
func grpcEcho(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			m := new(wrapperspb.StringValue)
			if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if m.Value == "fail" {
				return status.Error(codes.NotFound, "not there")
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	go func() { _ = srv.Serve(l) }() // until it is stopped
	t.Cleanup(srv.Stop)
	return netip.MustParseAddrPort(l.Addr().String())
}

func dial(t *testing.T, id model.RulesetID) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:"+addr(id), grpc.WithTransportCredentials(insecure.NewCredentials()))
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func say(c *grpc.ClientConn, method, text string) (string, error) {
	in, out := wrapperspb.String(text), new(wrapperspb.StringValue)
	err := c.Invoke(context.Background(), method, in, out)
	return out.Value, err
}

func TestCalls(t *testing.T) {
	r := newRig(t, grpcEcho(t), grpcRules(1, model.GRPCRule{Service: "a.Greeter", Method: "Hello"}, model.GRPCRule{Service: "a.Other"}, model.GRPCRule{Method: "Check"}),
		grpcRules(2, model.GRPCRule{}))
	for _, c := range []struct {
		id     model.RulesetID
		method string
		want   codes.Code
	}{
		{1, "/a.Greeter/Hello", codes.OK}, {1, "/a.Greeter/Bye", codes.PermissionDenied}, {1, "/a.Greeter/HelloX", codes.PermissionDenied},
		{1, "/a.Other/Any", codes.OK}, {1, "/a.OtherX/Any", codes.PermissionDenied}, {1, "/any.Thing/Check", codes.OK},
		{1, "/a/b/Check", codes.PermissionDenied}, {2, "/x.Y/Z", codes.OK},
	} {
		got, err := say(dial(t, c.id), c.method, "hi")
		if status.Code(err) != c.want || err == nil && got != "hi" {
			t.Errorf("ruleset %d: %s: %v, %q; want %v", c.id, c.method, err, got, c.want)
		}
	}
	_, err := say(dial(t, 1), "/a.Greeter/Bye", "hi")
	if want := "denied by policy: WeftNetworkPolicy shop/api"; status.Convert(err).Message() != want {
		t.Errorf("a refusal says %q, want %q", status.Convert(err).Message(), want)
	}
	if got, _ := call(t, request(t, 2, "POST /x.Y/Z")); got != 403 {
		t.Errorf("what is no call got %d", got)
	}
	if _, err := say(dial(t, 2), "/x.Y/Z", "fail"); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "not there" {
		t.Errorf("the server's own status: %v", err)
	}
	ev := r.events.wait(t, "a call that failed", func(e accesslog.Event) bool { return e.GRPCStatus == int(codes.NotFound) })
	if ev.Protocol != "gRPC" || ev.Path != "/x.Y/Z" || ev.Verdict.Outcome != xds.Allowed {
		t.Errorf("event %+v", ev)
	}
	r.events.wait(t, "a call that is denied", func(e accesslog.Event) bool {
		return e.Verdict.Outcome == xds.Denied && e.GRPCStatus == int(codes.PermissionDenied)
	})
}

// What says that it is gRPC is a call only if it has the form of one.
func TestWhatIsNoCall(t *testing.T) {
	seen := make(chan string, 16)
	newRig(t, backend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Method + " " + r.URL.Path })),
		grpcRules(1, model.GRPCRule{}), grpcRules(2, model.GRPCRule{Service: "shop"}), grpcRules(3, model.GRPCRule{Method: "Get"}), grpcRules(4, model.GRPCRule{Service: "shop", Method: "Get"}))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		for id := model.RulesetID(1); id <= 4; id++ {
			call(t, request(t, id, method+" /shop/Get h content-type=application/grpc"))
		}
	}
	for _, text := range []string{"POST /shop/a/b", "POST /shop/", "POST /shop"} {
		for id := model.RulesetID(1); id <= 2; id++ {
			call(t, request(t, id, text+" h content-type=application/grpc"))
		}
	}
	call(t, request(t, 2, "POST /shop/Get h content-type=application/grpc"))
	if got := <-seen; got != "POST /shop/Get" || len(seen) > 0 {
		t.Errorf("servers saw %s, and %d more", got, len(seen))
	}
}

// TestStreamsOfCalls both ways, while the rules change beneath them.
func TestStreamsOfCalls(t *testing.T) {
	inEachPlace(t, grpcRules(1, model.GRPCRule{}), streamsOfCalls)
}

func streamsOfCalls(t *testing.T, rulesets []model.Ruleset) {
	r := newRig(t, grpcEcho(t), rulesets...)
	c := dial(t, 1)
	s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/a.B/Talk")
	ok(t, err)
	for i := range 200 {
		in, out := wrapperspb.String(fmt.Sprint(i)), new(wrapperspb.StringValue)
		ok(t, s.SendMsg(in))
		ok(t, s.RecvMsg(out))
		if out.Value != in.Value {
			t.Fatalf("message %d came back as %q", i, out.Value)
		}
		if i == 100 {
			r.update(withoutRules(rulesets)...)
		}
	}
	if _, err := say(c, "/a.B/Once", "hi"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a call after the change: %v", err)
	}
	ok(t, s.CloseSend())
	if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the end of the stream: %v", err)
	}
}
