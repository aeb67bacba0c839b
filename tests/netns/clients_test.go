// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

const clientsPolicy = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: web, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules:
        http:
        - {method: GET|HEAD, path: /a}
        - {method: POST|PUT, path: "/put/.*", headers: ["X-Token: secret"]}
`

// run runs a program that is not ours in a namespace, and gives what it prints.
func run(t *testing.T, ns *sandbox.NS, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run make clients first", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	ok(t, ns.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &problems)
	}
	return out.String()
}

// TestCurlIsDecided, by HTTP/1.0, HTTP/1.1 and HTTP/2, with paths as they are typed.
func TestCurlIsDecided(t *testing.T) {
	n := newLoaded(t)
	n.write("web.yaml", clientsPolicy)
	n.envoyReady()
	body := filepath.Join(t.TempDir(), "body")
	ok(t, os.WriteFile(body, bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o600))
	onBoth(t, func(t *testing.T, family int) {
		at := "http://" + hostPort(addrs(n.web)[family], 8080)
		for _, version := range []string{"--http1.0", "--http1.1", "--http2-prior-knowledge"} {
			for _, c := range []struct{ want, args string }{
				{"200", "/a"}, {"200", "/a?b=c"}, {"200", "/b/../a"}, {"200", "//a"}, {"200", "/%61"}, {"200", "-I /a"},
				{"403", "/b"}, {"403", "/A"}, {"403", "/a/"}, {"403", "/a/../b"}, {"403", "/a/..;/b"}, {"400", "/a%2Fb"}, {"403", "-X DELETE /a"},
				{"200", "-H X-Token:secret -T BODY /put/1"}, {"200", "-H Expect:100-continue -H X-Token:secret --data-binary @BODY /put/1"},
				{"403", "-H X-Token:other -d x /put/1"}, {"403", "-H X-Token:secret -H X-Token:other -d x /put/1"}, {"403", "-d x /put/1"},
			} {
				asked := c.args
				if c.want == "403" && strings.HasPrefix(version, "--http2") {
					// The rest of a request that is refused is not waited for: its stream is
					// reset after the answer (RFC 9113, 8.1), which some curls take for a failure.
					asked = strings.ReplaceAll(asked, "-d x", "-X PUT")
				}
				args := strings.Fields(strings.ReplaceAll(asked, "BODY", body))
				last := len(args) - 1
				args = append([]string{"-sg", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", "--path-as-is", version}, append(args[:last:last], at+args[last])...)
				if got := run(t, n.a.NS, "curl", args...); got != c.want {
					t.Errorf("curl %s %s: %s, want %s", version, asked, got, c.want)
				}
			}
		}
		refusal := run(t, n.a.NS, "curl", "-sg", "-m", "10", at+"/b")
		if !strings.Contains(refusal, "demo/web") {
			t.Errorf("curl is told %q", refusal)
		}
	})
}

// TestPythonIsDecided asks for one thing after another by one connection.
func TestPythonIsDecided(t *testing.T) {
	n := newLoaded(t)
	n.write("web.yaml", clientsPolicy)
	n.envoyReady()
	onBoth(t, func(t *testing.T, family int) {
		const program = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=10)
for method, path, headers in [("GET", "/a", {}), ("GET", "/b", {}), ("PUT", "/put/x", {"X-Token": "secret"}), ("PUT", "/put/x", {}), ("GET", "/a", {})]:
    c.request(method, path, body=(b"chunk" for _ in range(3)) if method == "PUT" else None, headers=headers, encode_chunked=True)
    r = c.getresponse()
    text = r.read().decode()
    print(r.status, text if r.status == 200 else "")
`
		me := addrs(n.a)[family].String()
		want := fmt.Sprintf("200 %s\n403 \n200 %s\n403 \n200 %s\n", me, me, me)
		if got := run(t, n.a.NS, "python3", "-c", program, addrs(n.web)[family].String()); got != want {
			t.Errorf("python has %q, want %q", got, want)
		}
	})
}
