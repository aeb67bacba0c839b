// SPDX-License-Identifier: Apache-2.0

// Package cni_test runs the real plugin against the agent's real CNI server, with
// real devices, on a host of its own. What stands in for the rest of the agent are
// tables in memory, and a kernel that says what a test wants.
package cni_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

const pluginBin = "/run/weft-cni"

func TestMain(m *testing.M) {
	sandbox.Enter()
	if err := prepareHost(); err != nil {
		fmt.Fprintln(os.Stderr, "setting up the test's host:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepareHost gives the sandbox addresses of its own, and the plugin.
func prepareHost() error {
	build := exec.Command("go", "build", "-o", pluginBin, "github.com/weftmesh/weft/daemonset/cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the plugin: %w: %s", err, out)
	}
	return errors.Join(addAddr("lo", hostIPv4+"/32"), addAddr("lo", hostIPv6+"/128"))
}
