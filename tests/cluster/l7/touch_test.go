// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// touches: connections that no rule about requests is about never touch an Envoy, though other
// clients' to the same port do.
func (s *shop) touches() {
	connect := func(from *pod) {
		s.T.Helper()
		for _, to := range []*pod{s.near, s.far} {
			for _, host := range to.IPs() {
				if out, err := s.Exec(from, "/agnhost connect --timeout=5s "+net.JoinHostPort(host, "8080")); err != nil {
					s.T.Fatalf("%s: %v %s", host, err, out)
				}
			}
		}
	}
	before := s.touched()
	for range 5 {
		connect(s.d)
	}
	if now := s.touched(); now != before {
		s.T.Errorf("of 20 connections that no rule is about Envoys had %d", now-before)
	}
	connect(s.a)
	s.Eventually(10*time.Second, "counted", func() error {
		if now := s.touched(); now != before+4 {
			return fmt.Errorf("of 4 connections that a rule is about Envoys had %d", now-before)
		}
		return nil
	})
}

// touched is how many clients the Envoys of all nodes have had.
func (w *world) touched() (n int) {
	w.T.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ UID string }
			Spec     struct{ NodeName string }
		}
	}
	if err := json.Unmarshal([]byte(w.Kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-envoy -o json")), &list); err != nil {
		w.T.Fatal(err)
	}
	for _, p := range list.Items {
		for i, node := range w.Nodes() {
			if node.Name() == p.Spec.NodeName {
				n += w.clients(i+1, p.Metadata.UID)
			}
		}
	}
	return n
}

// clients of the Envoy of a pod, until now.
func (w *world) clients(node int, uid string) (n int) {
	w.T.Helper()
	out := w.On(node, fmt.Sprintf("%s admin /var/lib/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/own/envoy-admin.sock '/stats?filter=^(http|tcp)\\.weft\\.downstream_cx_total$'",
		w.Program("traffic"), uid))
	for line := range strings.Lines(out) {
		_, value, _ := strings.Cut(line, ":")
		one, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			w.T.Fatalf("counters of Envoy: %v: %q", err, out)
		}
		n += one
	}
	return n
}
