// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/load"
	"github.com/weftmesh/weft/tests/sandbox"
)

// loadPolicy asks for more than ports, but for the one at which no proxy is needed.
const loadPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: web, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts:
    - {ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: POST, path: %s}]}}
    - {ports: [{port: "8081", protocol: TCP}], rules: {grpc: [{service: load.Echo}]}}
    - {ports: [{port: "9090", protocol: TCP}]}
`

const (
	echoCall   = "/load.Echo/Say"
	denied     = "/denied"
	bodySize   = 1 << 10
	oneMessage = 50 * time.Millisecond // of a stream, until the next
)

// loaded is a node with the real Envoy, a client, and a server whose requests are
// decided; echo is where the server answers without a proxy.
type loaded struct {
	*node
	a, web *sandbox.Pod
}

func newLoaded(t *testing.T) *loaded {
	t.Helper()
	n := &loaded{node: proxied(t)}
	n.a, n.web = n.pod("a", "role=a"), n.pod("web", "app=web")
	serveHTTP(t, n.web.NS, 8080)
	serveCalls(t, n.web.NS, 8081)
	serve(t, n.web, 9090)
	return n
}

// serveCalls answers each message of every gRPC method with itself.
func serveCalls(t *testing.T, ns *sandbox.NS, port uint16) {
	t.Helper()
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			m := new(wrapperspb.BytesValue)
			if err := s.RecvMsg(m); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	ln, err := ns.Listen("tcp", fmt.Sprintf(":%d", port))
	ok(t, err)
	go func() { _ = srv.Serve(ln) }() // until it is stopped
	t.Cleanup(srv.Stop)
}

// pressure is requests at a rate, of which each must be answered as it should.
type pressure struct {
	t     *testing.T
	loads map[string]*load.Load
}

// press asks 500 times a second, over both families: by HTTP with connections that
// are kept and with new ones, by gRPC, and for what is denied; and keeps streams of
// gRPC open, each for a second.
func (n *loaded) press() *pressure {
	n.t.Helper()
	p := &pressure{t: n.t, loads: map[string]*load.Load{}}
	for family, name := range []string{"IPv4", "IPv6"} {
		web, calls := hostPort(addrs(n.web)[family], 8080), hostPort(addrs(n.web)[family], 8081)
		p.loads["kept HTTP "+name] = load.Start(load.Config{Rate: 100, Workers: 16, Ask: n.poster(web, "/a", http.StatusOK, true)})
		p.loads["new HTTP "+name] = load.Start(load.Config{Rate: 50, Workers: 16, Ask: n.poster(web, "/a", http.StatusOK, false)})
		p.loads["denied HTTP "+name] = load.Start(load.Config{Rate: 25, Workers: 8, Ask: n.poster(web, denied, http.StatusForbidden, true)})
		p.loads["gRPC "+name] = load.Start(load.Config{Rate: 75, Workers: 16, Ask: n.caller(calls, 1)})
		p.loads["streams of gRPC "+name] = load.Start(load.Config{Rate: 4, Workers: 16, Ask: n.caller(calls, int(time.Second/oneMessage))})
	}
	p.moves("at the start")
	return p
}

// poster posts a body that cannot be sent twice, so that nothing is asked again
// behind our back. Each worker has connections of its own.
func (n *loaded) poster(addr, path string, status int, keep bool) func(int) error {
	var clients [16]*http.Client
	for i := range clients {
		tr := &http.Transport{DisableKeepAlives: !keep, DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return n.a.NS.Dial(network, addr, requestTimeout)
		}}
		n.t.Cleanup(tr.CloseIdleConnections)
		clients[i] = &http.Client{Transport: tr, Timeout: requestTimeout}
	}
	body := bytes.Repeat([]byte("b"), bodySize)
	return func(worker int) error {
		req, err := http.NewRequest(http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.GetBody = nil
		resp, err := clients[worker].Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != status {
			return fmt.Errorf("%s, want %d", resp.Status, status)
		}
		return nil
	}
}

// caller makes a call of so many messages.
func (n *loaded) caller(addr string, messages int) func(int) error {
	conn, err := grpc.NewClient("passthrough:"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) {
			return n.a.NS.Dial("tcp", addr, requestTimeout)
		}))
	ok(n.t, err)
	n.t.Cleanup(func() { _ = conn.Close() })
	body := bytes.Repeat([]byte("b"), bodySize)
	return func(int) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*requestTimeout)
		defer cancel()
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, echoCall)
		if err != nil {
			return err
		}
		pace := time.NewTicker(oneMessage)
		defer pace.Stop()
		for i := range messages {
			if i > 0 {
				<-pace.C
			}
			out := new(wrapperspb.BytesValue)
			if err := s.SendMsg(wrapperspb.Bytes(body)); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("message %d: %w", i, err)
			}
			if err := s.RecvMsg(out); err != nil {
				return fmt.Errorf("message %d: %w", i, err)
			}
			if !bytes.Equal(out.Value, body) {
				return fmt.Errorf("message %d came back otherwise", i)
			}
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
			return fmt.Errorf("the end of the call: %w", err)
		}
		return nil
	}
}

// moves waits until each kind of request has been answered some more times.
func (p *pressure) moves(when string) {
	p.t.Helper()
	before := map[string]int{}
	for name, l := range p.loads {
		before[name] = l.Report().Done
	}
	ok(p.t, sandbox.Eventually(p.t.Context(), 2*requestTimeout, "requests are answered "+when, func() error {
		for name, l := range p.loads {
			if r := l.Report(); r.Done < before[name]+5 {
				return fmt.Errorf("%s: %d more answers, failed %v", name, r.Done-before[name], r.Failed)
			}
		}
		return nil
	}))
}

// lasts has the requests go on for that part of a minute which the level asks for.
func (p *pressure) lasts() {
	timer := time.NewTimer(time.Duration(level.Scale(60)) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.t.Context().Done():
	}
}

// whole fails for each request that has failed so far.
func (p *pressure) whole(when string) {
	p.t.Helper()
	for name, l := range p.loads {
		r := l.Report()
		for _, f := range r.Failed[:min(len(r.Failed), 5)] {
			p.t.Errorf("%s, %s: of %d requests %d failed, at %s: %v", when, name, r.Done+len(r.Failed), len(r.Failed),
				f.At.Format("15:04:05.000"), f.Err)
		}
	}
}

// stop ends the requests, and fails for each that has failed.
func (p *pressure) stop(when string) {
	p.t.Helper()
	done, longest := 0, time.Duration(0)
	for _, l := range p.loads {
		r := l.Stop()
		done, longest = done+r.Done, max(longest, r.Longest)
	}
	p.whole(when)
	p.t.Logf("%s: %d requests answered, the slowest after %s", when, done, longest.Round(time.Millisecond))
}

// mostClashes are told to who sent, which comes by another port: no request notices.
const mostClashes = 3

// nothingDropped fails if packets were dropped meanwhile for other reasons than those
// excepted, but for the few whose port the other leg of a connection has.
func (n *node) nothingDropped(before map[model.Reason]uint64, except ...weftbpf.BpfWeftReason) {
	n.t.Helper()
	told := since(dropped(n.t), before)
	if told[model.Reason(weftbpf.BpfWeftReasonWEFT_DROP_PROXY_CLASH)] <= mostClashes {
		except = append(except, weftbpf.BpfWeftReasonWEFT_DROP_PROXY_CLASH)
	}
	if len(told) > 0 {
		n.t.Logf("packets were dropped: %v", told)
		n.logDrops(n.t, "")
	}
	for _, reason := range except {
		delete(told, model.Reason(reason))
	}
	if len(told) > 0 {
		n.t.Errorf("packets were dropped: %v", told)
	}
}
