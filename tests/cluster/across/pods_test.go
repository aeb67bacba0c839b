// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// Ports of the program probe.
const (
	firstPort = 7000
	tellPort  = 7100
	tallyPort = 7101
	hostPort  = 17000 // of a node, that is a pod's
)

// pod is one of a test; it runs probe, under its own name.
type pod struct {
	namespace, name string
	node            int
	labels          string   // name: value, …
	args            []string // empty: serve NAME
	ports           string   // list of container ports
	host            bool     // in the host's network
	ipv4, ipv6      string   // once it is ready
}

func (p *pod) full() string { return p.namespace + "/" + p.name }

// ip is the pod's address of a family.
func (p *pod) ip(six bool) string {
	if six {
		return p.ipv6
	}
	return p.ipv4
}

func (w *world) manifest(p *pod) string {
	args := p.args
	if len(args) == 0 {
		args = []string{"serve", p.name}
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  hostNetwork: %t
  terminationGracePeriodSeconds: 0
  enableServiceLinks: false
  automountServiceAccountToken: false
  containers:
  - name: main
    image: %s
    command: [/across/probe, "%s"]
    ports: [%s]
    securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}
    volumeMounts: [{name: programs, mountPath: /across}]
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, p.namespace, p.name, p.labels, w.Node(p.node).Name(), p.host, cluster.AgnhostImage, strings.Join(args, `", "`), p.ports, w.Repository()+"/build/across")
}

// namespace makes one that goes, with all that is in it, when the test ends.
func (w *world) namespace(name, labels string) {
	w.t.Helper()
	// One of an earlier run may be on its way out.
	w.kubectl("wait --for=delete namespace/" + name + " --timeout=60s")
	w.apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, labels))
	w.finally(func(ctx context.Context) error {
		_, err := w.Kubectl(ctx, "delete", "namespace", name, "--wait=false")
		return err
	})
	w.eventually(20*time.Second, "a service account in namespace "+name, func() error {
		_, err := w.Kubectl(w.t.Context(), "get", "serviceaccount", "default", "-n", name)
		return err
	})
}

// make makes pods, and waits until they answer.
func (w *world) make(pods ...*pod) {
	w.t.Helper()
	begun := time.Now()
	var all strings.Builder
	for _, p := range pods {
		all.WriteString(w.manifest(p))
	}
	w.apply(all.String())
	w.eventually(120*time.Second, "ready", func() error {
		for _, err := range each(pods, w.ready) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	w.t.Logf("%d pods answer after %.1f s", len(pods), time.Since(begun).Seconds())
}

// ready is nil if a pod answers; it learns its addresses.
func (w *world) ready(p *pod) error {
	if p.ipv4 != "" {
		return nil
	}
	var is struct {
		Status struct {
			Phase  string
			PodIPs []struct{ IP string }
		}
	}
	err := w.Request(w.t.Context(), http.MethodGet, "/api/v1/namespaces/"+p.namespace+"/pods/"+p.name, nil, &is)
	if err != nil || is.Status.Phase != "Running" || len(is.Status.PodIPs) != 2 {
		return errors.Join(fmt.Errorf("pod %s is %+v", p.name, is.Status), err)
	}
	answers := *p
	answers.ipv4, answers.ipv6 = is.Status.PodIPs[0].IP, is.Status.PodIPs[1].IP
	if _, err := w.tell(w.t.Context(), &answers, "seen", "{}"); err != nil {
		return fmt.Errorf("pod %s does not answer: %w", p.name, err)
	}
	p.ipv4, p.ipv6 = answers.ipv4, answers.ipv6
	return nil
}

// tell asks a pod's probe from its own node, which may always reach its pods.
func (w *world) tell(ctx context.Context, p *pod, what, body string) (string, error) {
	return w.Node(p.node).Run(ctx, fmt.Sprintf("%s ask http://%s:%d/%s '%s'", w.probe(), p.ipv4, tellPort, what, body))
}

// attempt and answer see Attempt and Answer of the program probe.
type attempt struct {
	Proto, To, Via string
	Size           int
	Wait           time.Duration
}

type answer struct {
	Who, Saw, Error string
	MS              int64
}

// caller is who tries: a pod, or a machine.
type caller struct {
	name string
	run  func(ctx context.Context, attempts []attempt) (string, error)
}

func (w *world) pod(p *pod) caller {
	return caller{name: p.name, run: func(ctx context.Context, a []attempt) (string, error) {
		return w.tell(ctx, p, "try", strings.Trim(quoted(a), "'"))
	}}
}

// machine is one that runs probe by a shell.
func (w *world) machine(name string, shell func(context.Context, string) (string, error)) caller {
	return caller{name: name, run: func(ctx context.Context, a []attempt) (string, error) {
		return shell(ctx, w.probe()+" try "+quoted(a))
	}}
}

// try has a caller try everything at the same time.
func (w *world) try(c caller, attempts []attempt) ([]answer, error) {
	out, err := c.run(w.t.Context(), attempts)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be told to try: %w: %s", c.name, err, out)
	}
	answers := decode[[]answer](w.t, out)
	if len(answers) != len(attempts) {
		return nil, fmt.Errorf("%s gave %d answers to %d attempts", c.name, len(answers), len(attempts))
	}
	return answers, nil
}

// each does something for all callers at the same time.
func each[T any](all []T, do func(T) error) []error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, x := range all {
		group.Go(func() { errs[i] = do(x) })
	}
	group.Wait()
	return errs
}

// at is an address with a port.
func at(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
