// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"fmt"
	"net"
	"strings"
)

// Exec runs a command in a pod.
func (w *World) Exec(p *Pod, command string) (string, error) {
	return w.Cluster.Kubectl(w.T.Context(), "exec", "-n", p.Namespace, p.Name, "--", "sh", "-c", command)
}

// Connects tries a TCP connection from a pod; nil says that it came about.
func (w *World) Connects(from *Pod, host string, port int) error {
	_, err := w.Exec(from, "/agnhost connect --timeout=2s "+net.JoinHostPort(host, fmt.Sprint(port)))
	return err
}

// Isolated is an error while the connection comes about, or is refused.
func (w *World) Isolated(from *Pod, host string, port int) error {
	err := w.Connects(from, host, port)
	if err == nil {
		return fmt.Errorf("%s reaches %s:%d", from.Name, host, port)
	}
	if !strings.Contains(err.Error(), "TIMEOUT") {
		return fmt.Errorf("%s to %s:%d: no time-out, but %w", from.Name, host, port, err)
	}
	return nil
}
