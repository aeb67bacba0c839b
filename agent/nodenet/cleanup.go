// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/podnet"
)

// CleanupConfig is what Cleanup removes besides routes and devices.
type CleanupConfig struct {
	StateDir string   // removed whole, if it is set: records, tombstones
	Files    []string // CNI binary and configuration, sockets
}

// Cleanup removes what the agent and the plugin left on the host: our devices
// (pods lose theirs), our routes, files and state. It goes on after a failure and
// reports all of them; what is gone already is no error. Forwarding stays on, as
// others may count on it.
func Cleanup(c CleanupConfig) error {
	errs := []error{removeDevices(), ProxyPath{StateDir: c.StateDir}.Set(false), removeAllRoutes()}
	for _, f := range c.Files {
		errs = append(errs, attachment.RemoveFile(f))
	}
	if c.StateDir != "" {
		errs = append(errs, removeState(c.StateDir))
	}
	return errors.Join(errs...)
}

// removeState removes the folder; one that is a mount point stays, empty.
func removeState(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the state: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the state: %w", err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("removing the state: %w", err)
	}
	return nil
}

func removeDevices() error {
	names, err := Devices{}.HostSide()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, podnet.RemoveHost(name))
	}
	return errors.Join(errs...)
}
