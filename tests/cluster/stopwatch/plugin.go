// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
)

const (
	realPlugin = "/opt/cni/bin/weft-cni"
	pluginLog  = "/run/weft-cni.times"
)

// plugin runs the real one, with all that the runtime gave, and notes what was asked
// and how long it took, from its start as a process to its end. A call that failed is
// not noted: it is repeated.
func plugin() error {
	cmd := exec.Command(realPlugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	begin := now()
	err := cmd.Run()
	took := now() - begin
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		return err
	}
	return note(pluginLog, "%s %d", os.Getenv("CNI_COMMAND"), took)
}
