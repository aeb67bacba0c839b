// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/pkg/daemon"
)

// healthSocket is where the chart has the operator listen (operator.healthSocket).
const healthSocket = "/run/weft-operator/health.sock"

// healthCommand asks the operator of its own pod. Its probes do so by this, and not
// by a port: operators share the network of their node, where another may have it. It
// does not read the configuration, which may already be that of the next version.
func healthCommand() *cobra.Command {
	var socket string
	var ready bool
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask the operator at operator.healthSocket whether it lives",
		Args:  daemon.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			return askHealth(cmd.Context(), socket, path)
		},
	}
	c.Flags().StringVar(&socket, "socket", healthSocket, "what operator.healthSocket says")
	c.Flags().BoolVar(&ready, "ready", false, "ask whether it could lead, too")
	return c
}

// askHealth returns what keeps the operator from being well.
func askHealth(ctx context.Context, socket, path string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: headerTimeout}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://operator"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the operator: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("asking the operator: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return nil
}
