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

	"github.com/weftmesh/weft/tests/cluster/framework"
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
	framework.Pod
	args  []string // empty: serve NAME
	ports string   // list of container ports
	host  bool     // in the host's network
}

func newPod(namespace, name string, node int, labels string) *pod {
	return &pod{Pod: framework.Pod{Namespace: namespace, Name: name, Node: node, Labels: labels}}
}

func (p *pod) full() string { return p.Namespace + "/" + p.Name }

// ip is the pod's address of a family.
func (p *pod) ip(six bool) string {
	if six {
		return p.IPv6
	}
	return p.IPv4
}

func (w *world) manifest(p *pod) string {
	w.T.Helper()
	if len(p.args) == 0 {
		p.args = []string{"serve", p.Name}
	}
	p.Command = append([]string{"/programs/probe"}, p.args...)
	p.Spec = fmt.Sprintf("  hostNetwork: %t\n  enableServiceLinks: false\n  automountServiceAccountToken: false", p.host)
	p.Container = fmt.Sprintf("    ports: [%s]\n    securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}", p.ports)
	return w.Manifest(&p.Pod)
}

// make makes pods, and waits until they answer.
func (w *world) make(pods ...*pod) {
	w.T.Helper()
	begun := time.Now()
	var all strings.Builder
	for _, p := range pods {
		all.WriteString(w.manifest(p))
	}
	w.Apply(all.String())
	w.Eventually(120*time.Second, "ready", func() error {
		for _, err := range each(pods, w.ready) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	w.T.Logf("%d pods answer after %.1f s", len(pods), time.Since(begun).Seconds())
}

// ready is nil if a pod answers; it learns its addresses.
func (w *world) ready(p *pod) error {
	if p.IPv4 != "" {
		return nil
	}
	var is struct {
		Status struct {
			Phase  string
			PodIPs []struct{ IP string }
		}
	}
	err := w.Request(w.T.Context(), http.MethodGet, "/api/v1/namespaces/"+p.Namespace+"/pods/"+p.Name, nil, &is)
	if err != nil || is.Status.Phase != "Running" || len(is.Status.PodIPs) != 2 {
		return errors.Join(fmt.Errorf("pod %s is %+v", p.Name, is.Status), err)
	}
	answers := *p
	answers.IPv4, answers.IPv6 = is.Status.PodIPs[0].IP, is.Status.PodIPs[1].IP
	if _, err := w.tell(w.T.Context(), &answers, "seen", "{}"); err != nil {
		return fmt.Errorf("pod %s does not answer: %w", p.Name, err)
	}
	p.IPv4, p.IPv6 = answers.IPv4, answers.IPv6
	return nil
}

// tell asks a pod's probe from its own node, which may always reach its pods.
func (w *world) tell(ctx context.Context, p *pod, what, body string) (string, error) {
	return w.Node(p.Node).Run(ctx, fmt.Sprintf("%s ask http://%s:%d/%s '%s'", w.Program("probe"), p.IPv4, tellPort, what, body))
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
	return caller{name: p.Name, run: func(ctx context.Context, a []attempt) (string, error) {
		return w.tell(ctx, p, "try", strings.Trim(quoted(a), "'"))
	}}
}

// machine is one that runs probe by a shell.
func (w *world) machine(name string, shell func(context.Context, string) (string, error)) caller {
	return caller{name: name, run: func(ctx context.Context, a []attempt) (string, error) {
		return shell(ctx, w.Program("probe")+" try "+quoted(a))
	}}
}

// try has a caller try everything at the same time.
func (w *world) try(c caller, attempts []attempt) ([]answer, error) {
	out, err := c.run(w.T.Context(), attempts)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be told to try: %w: %s", c.name, err, out)
	}
	answers := decode[[]answer](w.T, out)
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
