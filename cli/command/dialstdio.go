// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
)

// dialStdioCommand is the far end of a connection to an agent of a cluster: weft
// runs it in the agent's pod.
func (a *app) dialStdioCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dial-stdio", Short: "Connect standard input and output with the agent's socket", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return dialStdio(c.Context(), a.target.socket, a.env.Stdin, a.env.Stdout)
		},
	}
}

// dialStdio ends with either side.
func dialStdio(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return &client.UnreachableError{Where: socket, Cause: err}
	}
	defer conn.Close()
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(conn, in); ended <- err }() // ends with standard input, or conn
	go func() { _, err := io.Copy(out, conn); ended <- err }()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	return err
}
