// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildProgram builds a program of the tests, named by its folder here, as a static
// file: machines and pods, which share the file system, run it at that path.
func (c *Cluster) BuildProgram(ctx context.Context, folder, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", file, "./"+folder)
	cmd.Dir = filepath.Join(c.Repository(), "tests/cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", folder, err, out)
	}
	return nil
}
