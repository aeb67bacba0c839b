// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// webPort is where frontend answers by HTTP.
const webPort = 8090

// requestPolicy asks for more than ports.
const requestPolicy = `# SPDX-License-Identifier: Apache-2.0
# What client may ask of frontend.
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: frontend-web, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: frontend}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts:
    - ports: [{port: "8090", protocol: TCP}]
      rules: {http: [{method: GET, path: /public/.*}]}
`

// requestsDecided lets client ask frontend for some paths only: the kernel hands
// connections to this port, and no others, to the stock Envoy, which is started now.
func (s *stage) requestsDecided(ctx context.Context) (string, error) {
	stop, err := s.serveWeb("frontend")
	if err != nil {
		return "", err
	}
	defer stop()
	if err := writeManifest("requests.yaml", []byte(requestPolicy)); err != nil {
		return "", err
	}
	begin := time.Now()
	var seen string
	err = sandbox.Eventually(ctx, s.within(20*time.Second), "requests let through", func() (err error) {
		seen, err = s.get(ctx, "client", "frontend", "/public/news", http.StatusOK)
		return err
	})
	if err != nil {
		return "", err
	}
	took := time.Since(begin)
	if want := s.pods["client"].IPv4.String(); seen != want {
		return "", fmt.Errorf("frontend sees %s, not client's own address %s", seen, want)
	}
	refusal, err := s.get(ctx, "client", "frontend", "/private/news", http.StatusForbidden)
	if err != nil {
		return "", err
	}
	if _, err := s.get(ctx, "intruder", "frontend", "/public/news", http.StatusOK); err == nil {
		return "", errors.New("the intruder is answered")
	}
	line, err := s.observed(ctx, []string{"--type", "request"}, "demo/frontend", "/private/news", "403")
	if err != nil {
		return "", err
	}
	rulesets, err := s.weft(ctx, "l7", "rulesets")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("after %d ms, with the client's own address; the rest is answered 403: %s\n%s\n%s",
		took.Milliseconds(), strings.TrimSpace(refusal), line, rulesets), nil
}

// serveWeb answers requests with the caller's address.
func (s *stage) serveWeb(name string) (stop func(), err error) {
	ln, err := s.pods[name].NS.Listen("tcp4", net.JoinHostPort(s.pods[name].IPv4.String(), fmt.Sprint(webPort)))
	if err != nil {
		return nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: s.within(askTime), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			fmt.Fprint(w, from.Addr())
		}
	})}
	go func() { _ = srv.Serve(ln) }() // until stop
	return func() { _ = srv.Close() }, nil
}

// get asks from one pod to another, and gives what comes with the status that is wanted.
func (s *stage) get(ctx context.Context, from, to, path string, status int) (string, error) {
	client := &http.Client{Timeout: s.within(askTime), Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return s.pods[from].NS.Dial(network, addr, s.within(askTime))
		},
	}}
	url := "http://" + netip.AddrPortFrom(s.pods[to].IPv4, webPort).String() + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(text), err
}
