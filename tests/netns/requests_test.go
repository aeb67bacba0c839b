// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/tests/sandbox"
)

// proxied is a node with the real Envoy, which runs from the first rule about requests.
func proxied(t *testing.T) *node {
	t.Helper()
	envoy, err := sandbox.Envoy()
	ok(t, err)
	return startNode(t, "envoy: {binary: "+envoy+"}")
}

// requestPolicy lets each role ask for its own path.
const requestPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: web, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /a}]}}]
  - fromEndpoints: [{matchLabels: {role: b}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: %s}]}}]
`

// Who may ask what is decided by who asks, and the server sees who that is. What nobody
// needs a proxy for does not touch one.
func TestRequestsAreDecidedByWhoAsks(t *testing.T) {
	n := proxied(t)
	a, b, c := n.pod("a", "role=a"), n.pod("b", "role=b"), n.pod("c", "role=c")
	web := n.pod("web", "app=web")
	serveHTTP(t, web.NS, 8080)
	serveHTTP(t, web.NS, 9090)
	open := browser(t, b.NS)
	onBoth(t, func(t *testing.T, family int) { asks(t, open, web, family, "/b", http.StatusOK) })

	n.write("web.yaml", fmt.Sprintf(requestPolicy, "/b"))
	n.envoyReady()
	onBoth(t, func(t *testing.T, family int) {
		// A connection that was open goes on by the proxy only.
		if _, _, err := ask(open, web, family, "/b"); err == nil {
			t.Error("an open connection slips past the rule")
		}
		fromA, fromB := browser(t, a.NS), browser(t, b.NS)
		if text := asks(t, fromA, web, family, "/a", http.StatusOK); text != addrs(a)[family].String() {
			t.Errorf("the server sees %s", text)
		}
		if text := asks(t, fromA, web, family, "/b", http.StatusForbidden); !strings.Contains(text, "demo/web") {
			t.Errorf("the refusal does not name the policy: %s", text)
		}
		asks(t, fromB, web, family, "/b", http.StatusOK)
		asks(t, fromB, web, family, "/a", http.StatusForbidden)
		blocked(t, c.NS, "tcp", addrs(web)[family], 8080)
		blocked(t, a.NS, "tcp", addrs(web)[family], 9090)
	})
	n.requestFlow(a, web, "/b", http.StatusForbidden)

	// A rule that changes counts from the next request of an open connection.
	fromB := browser(t, b.NS)
	onBoth(t, func(t *testing.T, family int) { asks(t, fromB, web, family, "/b", http.StatusOK) })
	n.write("web.yaml", fmt.Sprintf(requestPolicy, "/c"))
	n.envoyReady()
	onBoth(t, func(t *testing.T, family int) {
		asks(t, fromB, web, family, "/b", http.StatusForbidden)
		asks(t, fromB, web, family, "/c", http.StatusOK)
	})

	// Nothing is asked any more: connections of the proxy's go on, new ones are direct.
	n.remove("web.yaml")
	n.settle()
	onBoth(t, func(t *testing.T, family int) {
		asks(t, fromB, web, family, "/b", http.StatusOK)
		asks(t, browser(t, c.NS), web, family, "/whatever", http.StatusOK)
	})
}

// The agent may end, and come back: requests go on, and are decided.
func TestRequestsGoOnWithoutTheAgent(t *testing.T) {
	n := proxied(t)
	a, web := n.pod("a", "role=a"), n.pod("web", "app=web")
	serveHTTP(t, web.NS, 8080)
	n.write("web.yaml", fmt.Sprintf(requestPolicy, "/b"))
	n.envoyReady()
	ok(t, n.agent.Kill())
	check := func(t *testing.T, family int) {
		asks(t, browser(t, a.NS), web, family, "/a", http.StatusOK)
		asks(t, browser(t, a.NS), web, family, "/b", http.StatusForbidden)
	}
	onBoth(t, check)
	n.startAgent("weft-agent")
	n.envoyReady()
	onBoth(t, check)
}

// envoyReady waits until the kernel and the proxy have what is written.
func (n *node) envoyReady() {
	n.t.Helper()
	n.settle()
	ok(n.t, sandbox.Eventually(n.t.Context(), 20*time.Second, "rulesets ready", func() error {
		list, err := n.agent.API().ListRulesets(n.t.Context(), &agentv1.ListRulesetsRequest{})
		if err != nil {
			return err
		}
		if len(list.GetRulesets()) == 0 {
			return errors.New("there is none")
		}
		for _, r := range list.GetRulesets() {
			if r.GetState() == "in force" && r.GetReady() != agentv1.Readiness_READINESS_YES {
				return fmt.Errorf("ruleset %d: %v", r.GetNumber(), r)
			}
		}
		_, err = n.agent.API().GetStatus(n.t.Context(), &agentv1.GetStatusRequest{WaitRealized: true})
		return err
	}))
}

// Envoy runs while it is needed, and ends with the last rule that does.
func TestEnvoyEndsWithTheLastRule(t *testing.T) {
	n := proxied(t)
	a, web := n.pod("a", "role=a"), n.pod("web", "app=web")
	serveHTTP(t, web.NS, 8080)
	needed := func() {
		t.Helper()
		n.write("web.yaml", fmt.Sprintf(requestPolicy, "/b"))
		n.envoyReady()
		onBoth(t, func(t *testing.T, family int) {
			c := browser(t, a.NS)
			asks(t, c, web, family, "/a", http.StatusOK)
			c.CloseIdleConnections()
		})
	}
	needed()
	n.remove("web.yaml")
	n.settle()
	mount, err := cgroup.FindMount()
	ok(t, err)
	ok(t, sandbox.Eventually(t.Context(), time.Minute, "Envoy has ended", func() error {
		text, err := os.ReadFile(filepath.Join(mount, "weft-envoy", "cgroup.procs"))
		if err == nil && len(text) > 0 {
			err = fmt.Errorf("there are processes %q", text)
		}
		return err
	}))
	needed()
}

// requestFlow waits for the flow of a request.
func (n *node) requestFlow(from, to *sandbox.Pod, path string, status uint32) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.t.Context(), 10*time.Second, "a flow of the request", func() error {
		for _, f := range n.flows() {
			r := f.GetRequest()
			if r.GetPath() == path && r.GetStatus() == status && f.GetSource().GetPod() == from.Name && f.GetDestination().GetPod() == to.Name {
				return nil
			}
		}
		return fmt.Errorf("none of %s to %s for %s with %d", from.Name, to.Name, path, status)
	}))
}

// serveHTTP answers requests, by HTTP/1 and HTTP/2, with the client's address.
func serveHTTP(t *testing.T, ns *sandbox.NS, port uint16) {
	t.Helper()
	for network, addr := range map[string]string{"tcp4": "0.0.0.0", "tcp6": "[::]"} {
		ln, err := ns.Listen(network, fmt.Sprintf("%s:%d", addr, port))
		ok(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
				fmt.Fprint(w, from.Addr())
			}
		}), Protocols: new(http.Protocols)}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = srv.Serve(ln) }() // ends with the test
		t.Cleanup(func() { _ = srv.Close() })
	}
}

// browser asks from a namespace, and keeps its connections.
func browser(t *testing.T, ns *sandbox.NS) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return ns.Dial(network, addr, answerWithin)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: answerWithin}
}

const answerWithin = 3 * time.Second

func ask(c *http.Client, to *sandbox.Pod, family int, path string) (int, string, error) {
	// A request that fails is not sent again: it has a body.
	req, err := http.NewRequest(http.MethodGet, "http://"+netip.AddrPortFrom(addrs(to)[family], 8080).String()+path, strings.NewReader("x"))
	if err != nil {
		return 0, "", err
	}
	req.GetBody = nil
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// asks asserts the status of an answer, and gives what came with it.
func asks(t *testing.T, c *http.Client, to *sandbox.Pod, family int, path string, status int) string {
	t.Helper()
	got, text, err := ask(c, to, family, path)
	if err != nil || got != status {
		t.Errorf("%s: %d %q, %v; want %d", path, got, text, err, status)
	}
	return text
}
