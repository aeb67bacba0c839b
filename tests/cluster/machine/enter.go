// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Enter runs a command in the machine in the place of this process, as somebody
// logged in there: in its groups and namespaces. It returns only to say why not.
func Enter(dir string, args []string, env []string) error {
	init, err := PID1(dir)
	if err != nil {
		return err
	}
	spec, err := Load(dir)
	if err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("nsenter of util-linux is needed to enter a machine: %w", err)
	}
	// The groups are joined from out here, where they can be seen.
	if err := join(spec.Groups, Group.leaf); err != nil {
		return err
	}
	command := []string{"nsenter", "--target", strconv.Itoa(init.PID), "--mount", "--uts", "--ipc", "--net", "--pid"}
	if spec.Node {
		command = append(command, "--cgroup")
	}
	command = append(append(command, "--"), args...)
	if err := syscall.Exec(nsenter, command, append(os.Environ(), env...)); err != nil {
		return fmt.Errorf("running nsenter: %w", err)
	}
	return nil
}
