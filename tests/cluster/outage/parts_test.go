// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// part is what may die.
type part struct {
	name string
	kill func() error
	// back is nil when it is there again, after kill.
	back func() error
}

func (w *world) agent(n int) *part {
	p := &part{name: fmt.Sprintf("agent of node %d", n)}
	p.kill = func() (err error) {
		p.back, err = w.Kill(n, "weft-agent")
		return err
	}
	return p
}

// leader is the operator that works; another one takes over.
func (w *world) leader() *part {
	p := &part{name: "operator"}
	p.kill = func() error {
		holder, n, err := w.holder()
		if err != nil {
			return err
		}
		_, err = w.Kill(n, "weft-operator")
		p.back = func() error {
			now, _, err := w.holder()
			if err == nil && now == holder {
				err = fmt.Errorf("the lease is still that of %s", now)
			}
			return err
		}
		return err
	}
	return p
}

// holder of the operators' lease, and its node.
func (w *world) holder() (holder string, node int, err error) {
	holder, err = w.Cluster.Kubectl(w.T.Context(), "get", "lease", "weft-operator", "-n", "weft-system", "-o", "jsonpath={.spec.holderIdentity}")
	if err != nil {
		return "", 0, err
	}
	pod, _, _ := strings.Cut(holder, "_")
	name, err := w.Cluster.Kubectl(w.T.Context(), "get", "pod", pod, "-n", "weft-system", "-o", "jsonpath={.spec.nodeName}")
	if err != nil {
		return holder, 0, err
	}
	for n := range 10 {
		if w.Node(n).Name() == name {
			return holder, n, nil
		}
	}
	return holder, 0, fmt.Errorf("the operator %s is on node %q", holder, name)
}

// control is a service of the control plane; it is there when the API server answers
// and can write.
func (w *world) control(service string) *part {
	return &part{name: service,
		kill: func() error { return w.SignalControlPlane(service, syscall.SIGKILL) },
		back: w.apiServer}
}

func (w *world) apiServer() error {
	_, err := w.Cluster.Kubectl(w.T.Context(), "get", "--raw", "/readyz", "--request-timeout=2s")
	if err == nil {
		_, err = w.Cluster.Kubectl(w.T.Context(), "annotate", "namespace", "default", "outage=over", "--overwrite", "--request-timeout=5s")
	}
	return err
}

// service is kubelet or containerd.
func (w *world) service(n int, name string) *part {
	p := &part{name: fmt.Sprintf("%s of node %d", name, n)}
	p.kill = func() (err error) {
		p.back, err = w.Kill(n, name)
		return err
	}
	return p
}

// together are several that die at once.
func together(parts ...*part) *part {
	all := &part{}
	for _, p := range parts {
		all.name += " and " + p.name
	}
	all.name = strings.TrimPrefix(all.name, " and ")
	all.kill = func() (err error) {
		for _, p := range parts {
			err = errors.Join(err, p.kill())
		}
		return err
	}
	all.back = func() (err error) {
		for _, p := range parts {
			err = errors.Join(err, p.back())
		}
		return err
	}
	return all
}
