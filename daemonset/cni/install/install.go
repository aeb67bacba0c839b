// SPDX-License-Identifier: Apache-2.0

// Package install puts the CNI plugin and its configuration where container
// runtimes look for them, and takes them away.
package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/pkg/attachment"
)

// Where runtimes look by default, and the names that are put there.
const (
	DefaultBinDir  = "/opt/cni/bin"
	DefaultConfDir = "/etc/cni/net.d"

	BinaryName   = "weft-cni"
	ConfListName = "10-weft.conflist"
)

// Config says what is put where; empty fields have the defaults.
type Config struct {
	Binary   string // the weft-cni to install; needed by Install only
	BinDir   string
	ConfDir  string
	Socket   string // of the agent; written only if it is not the default
	StateDir string
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&c.BinDir, DefaultBinDir}, {&c.ConfDir, DefaultConfDir},
		{&c.Socket, attachment.DefaultSocket}, {&c.StateDir, attachment.DefaultStateDir},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return c
}

// Files are the paths that Install writes.
func (c Config) Files() []string {
	c = c.withDefaults()
	return []string{filepath.Join(c.ConfDir, ConfListName), filepath.Join(c.BinDir, BinaryName)}
}

// Install writes the plugin, then the configuration that names it, each so that a
// runtime sees the old file or the new one.
func Install(c Config) error {
	c = c.withDefaults()
	binary, err := os.ReadFile(c.Binary)
	if err != nil {
		return fmt.Errorf("reading the CNI plugin: %w", err)
	}
	conf, err := ConfList(c)
	if err != nil {
		return err
	}
	if err := attachment.WriteFile(filepath.Join(c.BinDir, BinaryName), binary, 0o755); err != nil {
		return fmt.Errorf("installing the CNI plugin: %w", err)
	}
	if err := attachment.WriteFile(filepath.Join(c.ConfDir, ConfListName), conf, 0o644); err != nil {
		return fmt.Errorf("installing the CNI configuration: %w", err)
	}
	return nil
}

// Remove removes what Install wrote, the configuration first; what is not there is
// no error.
func Remove(c Config) error {
	var errs []error
	for _, f := range c.Files() {
		errs = append(errs, attachment.RemoveFile(f))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the CNI plugin: %w", err)
	}
	return nil
}

// confList is the content of 10-weft.conflist.
type confList struct {
	CNIVersion string `json:"cniVersion"`
	// CNIVersions lets a runtime that knows the field take the newest version that
	// it speaks; an older runtime reads cniVersion.
	CNIVersions []string     `json:"cniVersions"`
	Name        string       `json:"name"`
	Plugins     []pluginConf `json:"plugins"`
}

type pluginConf struct {
	Type     string `json:"type"`
	Socket   string `json:"socket,omitempty"`
	StateDir string `json:"stateDir,omitempty"`
}

// ConfList is the configuration that Install writes.
func ConfList(c Config) ([]byte, error) {
	c = c.withDefaults()
	p := pluginConf{Type: BinaryName}
	if c.Socket != attachment.DefaultSocket {
		p.Socket = c.Socket
	}
	if c.StateDir != attachment.DefaultStateDir {
		p.StateDir = c.StateDir
	}
	data, err := json.MarshalIndent(confList{
		CNIVersion: "1.0.0", CNIVersions: []string{"0.4.0", "1.0.0", "1.1.0"},
		Name: "weft", Plugins: []pluginConf{p},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the CNI configuration: %w", err)
	}
	return append(data, '\n'), nil
}
