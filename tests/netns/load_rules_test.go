// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/load"
)

// otherPolicy has Envoy run, for somebody else.
const otherPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: other, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: other}}
  ingress:
  - toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET}]}}]
`

// morePolicy asks for something else of the same connections, so that they have
// another ruleset.
const morePolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: more, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /more}]}}]
`

// TestRulesComeAndGoUnderLoad: no request fails that the rules before and after
// allow, and none passes that the rules deny.
func TestRulesComeAndGoUnderLoad(t *testing.T) {
	n := newLoaded(t)
	n.pod("other", "app=other")
	n.write("other.yaml", otherPolicy)
	n.envoyReady()
	n.firstRule()
	n.changes()
	n.lastRule()
}

// firstRule brings the first rule for connections that are open. They are reset, and
// so is a request that is just on its way; nothing else fails.
func (n *loaded) firstRule() {
	n.t.Helper()
	fresh := map[string]*load.Load{}
	var open []net.Conn
	for family, a := range addrs(n.web) {
		fresh[a.String()] = load.Start(load.Config{Rate: 100, Workers: 16, Ask: n.poster(hostPort(a, 8080), "/a", http.StatusOK, false)})
		for range 10 {
			conn, err := n.a.NS.Dial("tcp", hostPort(a, 8080), answer)
			ok(n.t, err)
			n.t.Cleanup(func() { _ = conn.Close() })
			if status, err := rawGet(conn, denied); status != http.StatusOK || err != nil {
				n.t.Fatalf("family %d, without a rule: %d, %v", family, status, err)
			}
			open = append(open, conn)
		}
	}
	before := dropped(n.t)
	n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
	n.envoyReady()
	for _, conn := range open {
		if status, err := rawGet(conn, denied); !errors.Is(err, unix.ECONNRESET) {
			n.t.Errorf("an open connection to %s slips past the rule, or ends in another way: %d, %v", conn.RemoteAddr(), status, err)
		}
	}
	for name, l := range fresh {
		r := l.Stop()
		for _, f := range r.Failed {
			if !errors.Is(f.Err, unix.ECONNRESET) {
				n.t.Errorf("as the first rule came, a new connection to %s failed: %v", name, f.Err)
			}
		}
		if len(r.Failed) > 16 {
			n.t.Errorf("as the first rule came, %d requests to %s were reset of at most 16 that were on their way", len(r.Failed), name)
		}
	}
	told := since(dropped(n.t), before)
	if needs := told[model.Reason(weftbpf.BpfWeftReasonWEFT_DROP_NEEDS_PROXY)]; needs < uint64(len(open)) || len(told) != 1 {
		n.t.Errorf("counted were %v, want %d or more that need the proxy", told, len(open))
	}
}

// changes has the rules change again and again: what they say, and which there are.
func (n *loaded) changes() {
	n.t.Helper()
	p := n.press()
	before := dropped(n.t)
	for i := range level.Scale(100) {
		n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a|/b"+strconv.Itoa(i)))
		n.write("more.yaml", morePolicy)
		n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
		n.remove("more.yaml")
	}
	p.moves("after the changes")
	p.stop("rules changed")
	n.nothingDropped(before, weftbpf.BpfWeftReasonWEFT_DROP_NEEDS_PROXY)
}

// lastRule takes the rules away: nothing fails, and new connections are direct.
func (n *loaded) lastRule() {
	n.t.Helper()
	p := n.press()
	for name, l := range p.loads {
		if strings.HasPrefix(name, "denied") {
			l.Stop()
			delete(p.loads, name)
		}
	}
	before := dropped(n.t)
	n.remove("web.yaml")
	p.moves("after the last rule")
	p.stop("without a rule")
	n.nothingDropped(before, weftbpf.BpfWeftReasonWEFT_DROP_NEEDS_PROXY)
	// What Envoy has opened to the server stays open for a while, each from the client's
	// address and a port: a client that happens to take that one comes into Envoy still.
	ok(n.t, n.a.NS.TakePorts(10000, 30000))
	through := envoyConnections(n.t)
	for _, a := range addrs(n.web) {
		ask := n.poster(hostPort(a, 8080), denied, http.StatusOK, false)
		for i := range 100 {
			if err := ask(i % 16); err != nil {
				n.t.Errorf("without a rule: %v", err)
			}
		}
	}
	if now := envoyConnections(n.t); now != through {
		n.t.Errorf("without a rule, %d new connections of 200 went through Envoy", now-through)
	}
}

// envoyConnections is how many connections Envoy has taken so far.
func envoyConnections(t *testing.T) int {
	t.Helper()
	client := &http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", "/run/weft/envoy-admin.sock")
		}}}
	resp, err := client.Get("http://envoy/stats?filter=^http\\.weft\\.downstream_cx_total$")
	ok(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ok(t, err)
	_, number, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
	count, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("Envoy says %q: %v", text, err)
	}
	return count
}

// rawGet asks on an open connection, and only once.
func rawGet(conn net.Conn, path string) (int, error) {
	if err := conn.SetDeadline(deadline(requestTimeout)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: web\r\n\r\n", path); err != nil {
		return 0, err
	}
	buf := make([]byte, 4<<10)
	got, err := conn.Read(buf)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(buf[:got]), " ")
	code, _, _ := strings.Cut(rest, " ")
	return strconv.Atoi(code)
}
