// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	serviceV4   = "10.96.0.10"
	serviceV6   = "fd00:10:96::10"
	servicePort = 80
)

// service is the manifest of the service; the slices beside it, which a cluster
// would write by itself, name its backends.
const service = `# SPDX-License-Identifier: Apache-2.0
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: demo}
spec:
  clusterIP: ` + serviceV4 + `
  clusterIPs: [` + serviceV4 + `, "` + serviceV6 + `"]
  ports: [{name: http, port: 80, targetPort: http}]
`

// slices lists the backends by family; those in leaving are going away.
func (s *stage) slices(leaving string) string {
	var b strings.Builder
	for i, family := range []string{"IPv4", "IPv6"} {
		fmt.Fprintf(&b, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-%s, namespace: demo, labels: {kubernetes.io/service-name: backend}}
addressType: %s
ports: [{name: http, port: %d}]
endpoints:
`, strings.ToLower(family), family, port)
		for _, name := range []string{"backend-v1", "backend-v2"} {
			conditions := "{ready: true}"
			if name == leaving {
				conditions = "{ready: false, serving: true, terminating: true}"
			}
			p := s.pods[name]
			fmt.Fprintf(&b, "- {addresses: [%q], conditions: %s, targetRef: {kind: Pod, namespace: demo, name: %s}}\n",
				[]netip.Addr{p.IPv4, p.IPv6}[i], conditions, name)
		}
	}
	return b.String()
}

func serviceAddrs() []string {
	return []string{net.JoinHostPort(serviceV4, strconv.Itoa(servicePort)), net.JoinHostPort(serviceV6, strconv.Itoa(servicePort))}
}

// writeService writes service and slices and waits until they are in the kernel.
func (s *stage) writeService(ctx context.Context, leaving string) error {
	api := s.current().API()
	before, err := api.GetStatus(ctx, &agentv1.GetStatusRequest{})
	if err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	if err := writeManifest("service.yaml", []byte(service+s.slices(leaving))); err != nil {
		return err
	}
	return sandbox.Eventually(ctx, s.within(5*time.Second), "the service in the kernel", func() error {
		now, err := api.GetStatus(ctx, &agentv1.GetStatusRequest{WaitRealized: true})
		if err == nil && now.GetDesiredRevision() <= before.GetDesiredRevision() {
			err = fmt.Errorf("revision is still %d", now.GetDesiredRevision())
		}
		return err
	})
}

// answers asks the service from frontend, as often in each family, and counts
// who answers.
func (s *stage) answers(times int) (map[string]int, error) {
	by := make(map[string]int)
	for _, addr := range serviceAddrs() {
		for range times {
			got, err := sandbox.Ask(s.pods["frontend"].NS, "tcp", addr, "hello", s.within(askTime))
			if err != nil {
				return nil, fmt.Errorf("frontend to the service at %s: %w", addr, err)
			}
			name, _, _ := strings.Cut(got, " ")
			by[name]++
		}
	}
	return by, nil
}

func (s *stage) serviceServes(ctx context.Context) (string, error) {
	if err := s.writeService(ctx, ""); err != nil {
		return "", err
	}
	const times = 20
	by, err := s.answers(times)
	if err != nil {
		return "", err
	}
	if len(by) != 2 {
		return "", fmt.Errorf("of two backends these answer: %v", by)
	}
	list, err := s.weft(ctx, "service", "list")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d requests: %d answered by backend-v1, %d by backend-v2\n%s",
		2*times, by["backend-v1"], by["backend-v2"], list), nil
}

func (s *stage) backendLeaves(ctx context.Context) (string, error) {
	var loops []*sandbox.Loop
	for _, addr := range serviceAddrs() {
		loops = append(loops, sandbox.StartLoop(sandbox.LoopConfig{
			NS: s.pods["frontend"].NS, Network: "tcp", Addr: addr, Every: 5 * time.Millisecond, Timeout: s.within(askTime), Fresh: true,
		}))
	}
	err := s.writeService(ctx, "backend-v1")
	var by map[string]int
	if err == nil {
		by, err = s.answers(20)
	}
	done, failed := 0, 0
	for _, l := range loops {
		r := l.Stop()
		done, failed = done+r.Done, failed+len(r.Failed)
	}
	switch {
	case err != nil:
		return "", err
	case by["backend-v2"] != 40:
		return "", fmt.Errorf("backend-v1 is going away, but these answer: %v", by)
	case failed > 0 || done == 0:
		return "", fmt.Errorf("%d requests failed, %d were answered", failed, done)
	}
	about, err := s.weft(ctx, "service", "describe", "demo/backend")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d requests meanwhile, none failed; new ones go to backend-v2 only\n%s", done, about), nil
}
