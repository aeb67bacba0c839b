// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// outPolicy says what role a may ask the web for.
const outPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: out, namespace: demo}
spec:
  endpointSelector: {matchLabels: {role: a}}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: %s}]}}]
`

// inPolicy says what the web lets role a ask for.
const inPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: in, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: %s}]}}]
`

// Where the client's rules and the server's ask for requests to be looked at, both are
// asked in one pass, and each refusal names who refused.
func TestBothSidesAreAskedInOnePass(t *testing.T) {
	n := proxied(t)
	a, b, web := n.pod("a", "role=a"), n.pod("b", "role=b"), n.pod("web", "app=web")
	serveHTTP(t, web.NS, 8080)
	n.write("out.yaml", fmt.Sprintf(outPolicy, "/both|/out"))
	n.write("in.yaml", fmt.Sprintf(inPolicy, "/both|/in"))
	n.envoyReady()
	n.pairs(1)
	before, dials := envoyConnections(t), 0
	caller := func(t *testing.T) *http.Client { return counting(browser(t, a.NS), &dials) }
	onBoth(t, func(t *testing.T, family int) {
		c := caller(t)
		if text := asks(t, c, web, family, "/both", http.StatusOK); text != addrs(a)[family].String() {
			t.Errorf("the server sees %s", text)
		}
		for path, refuses := range map[string]string{"/out": "demo/in", "/in": "demo/out", "/other": "demo/out"} {
			text := asks(t, c, web, family, path, http.StatusForbidden)
			if !strings.HasSuffix(text, "WeftNetworkPolicy "+refuses) {
				t.Errorf("%s: the refusal says %s, want %s alone", path, text, refuses)
			}
		}
		blocked(t, b.NS, "tcp", addrs(web)[family], 8080)
	})
	if got := envoyConnections(t) - before; got != dials {
		t.Errorf("Envoy has had %d connections, the client %d", got, dials)
	}
	n.bothFlow("/both", true, true)
	n.bothFlow("/out", true, false)
	n.bothFlow("/in", false, false)

	// A change of either side counts from the next request, also when one goes.
	kept := []*http.Client{caller(t), caller(t)}
	onBoth(t, func(t *testing.T, family int) { asks(t, kept[family], web, family, "/both", http.StatusOK) })
	now := map[string]string{"out.yaml": "/both|/out", "in.yaml": "/both|/in"}
	for i, step := range []struct {
		out, in string // empty: no such policy
		yes, no string
		refuses string
	}{
		{out: "/both|/new", in: "/both|/in", yes: "/both", no: "/out", refuses: "demo/out"},
		{out: "/both|/new", in: "/both|/new", yes: "/new", no: "/in", refuses: "demo/out"},
		{out: "/both|/new", in: "/both|/in", yes: "/both", no: "/new", refuses: "demo/in"},
		{out: "/both|/new", yes: "/new", no: "/in", refuses: "demo/out"},
		{out: "/both|/new", in: "/both|/in", yes: "/both", no: "/new", refuses: "demo/in"},
		{in: "/both|/in", yes: "/in", no: "/new", refuses: "demo/in"},
	} {
		for file, of := range map[string][2]string{"out.yaml": {outPolicy, step.out}, "in.yaml": {inPolicy, step.in}} {
			if now[file] != of[1] && of[1] == "" {
				n.remove(file)
			} else if now[file] != of[1] {
				n.write(file, fmt.Sprintf(of[0], of[1]))
			}
			now[file] = of[1]
		}
		n.envoyReady()
		onBoth(t, func(t *testing.T, family int) {
			for name, c := range map[string]*http.Client{"kept": kept[family], "new": caller(t)} {
				if text := asks(t, c, web, family, step.yes, http.StatusOK); text != addrs(a)[family].String() {
					t.Errorf("step %d, %s: the server sees %s", i, name, text)
				}
				if text := asks(t, c, web, family, step.no, http.StatusForbidden); !strings.HasSuffix(text, step.refuses) {
					t.Errorf("step %d, %s: the refusal says %s, want %s", i, name, text, step.refuses)
				}
			}
		})
	}
	if got := envoyConnections(t) - before; got != dials {
		t.Errorf("Envoy has had %d connections, the client %d", got, dials)
	}
	n.remove("in.yaml")
	n.settle()
	onBoth(t, func(t *testing.T, family int) { asks(t, kept[family], web, family, "/whatever", http.StatusOK) })
}

// counting counts the connections of a client.
func counting(c *http.Client, dials *int) *http.Client {
	tr := c.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		*dials++
		return dial(ctx, network, addr)
	}
	return c
}

// pairs waits until there are so many pairs that connections get.
func (n *node) pairs(want int) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.t.Context(), 20*time.Second, "pairs of rulesets", func() error {
		list, err := n.agent.API().ListRulesets(n.t.Context(), &agentv1.ListRulesetsRequest{})
		if err != nil {
			return err
		}
		got := 0
		for _, r := range list.GetRulesets() {
			if len(r.GetPair()) == 2 && r.GetState() == "in force" {
				got++
			}
		}
		if got != want {
			return fmt.Errorf("there are %d of %d: %v", got, want, list.GetRulesets())
		}
		return nil
	}))
}

// bothFlow waits for the one flow of a request to a path, which the client's rules and the
// server's allowed or not.
func (n *node) bothFlow(path string, out, in bool) {
	n.t.Helper()
	allows := func(refs []*agentv1.RuleRef) bool { return len(refs) == 1 && refs[0].GetAction() == "allow" }
	ok(n.t, sandbox.Eventually(n.t.Context(), 10*time.Second, "flows of "+path, func() error {
		found := 0
		for _, f := range n.flows() {
			if f.GetRequest().GetPath() != path {
				continue
			}
			found++
			if allows(f.GetEgress()) != out || allows(f.GetIngress()) != in {
				n.t.Fatalf("the flow of %s is %v", path, f)
			}
		}
		if found != 2 {
			return errors.New("not one by each family: " + fmt.Sprint(found))
		}
		return nil
	}))
}
