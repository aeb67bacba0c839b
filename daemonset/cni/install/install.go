// SPDX-License-Identifier: Apache-2.0

// Package install puts the CNI plugin and its configuration where container
// runtimes look for them, keeps them there, and takes them away.
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
	// DefaultBinary is where the agent's image has the plugin.
	DefaultBinary = "/opt/weft/weft-cni"

	BinaryName = "weft-cni"
	// ConfListName sorts before what others install: a runtime takes the first.
	ConfListName = "05-weft.conflist"
	// formerConfListName is what version 0.1.0 installed.
	formerConfListName = "10-weft.conflist"

	pluginMode   = 0o755
	confListMode = 0o644
)

// Config says what is put where; empty fields have the defaults.
type Config struct {
	Binary   string // the weft-cni to install
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
		{&c.Binary, DefaultBinary}, {&c.BinDir, DefaultBinDir}, {&c.ConfDir, DefaultConfDir},
		{&c.Socket, attachment.DefaultSocket}, {&c.StateDir, attachment.DefaultStateDir},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return c
}

func (c Config) plugin() string   { return filepath.Join(c.BinDir, BinaryName) }
func (c Config) confList() string { return filepath.Join(c.ConfDir, ConfListName) }

// Install writes the plugin, then the configuration that names it, each so that a
// runtime sees the old file or the new one.
func Install(c Config) error {
	c = c.withDefaults()
	if err := installPlugin(c); err != nil {
		return err
	}
	return installConfList(c)
}

func installPlugin(c Config) error {
	binary, err := os.ReadFile(c.Binary)
	if err != nil {
		return fmt.Errorf("reading the CNI plugin: %w", err)
	}
	if err := attachment.WriteFile(c.plugin(), binary, pluginMode); err != nil {
		return fmt.Errorf("installing the CNI plugin: %w", err)
	}
	return nil
}

func installConfList(c Config) error {
	conf, err := ConfList(c)
	if err != nil {
		return err
	}
	if err := attachment.WriteFile(c.confList(), conf, confListMode); err != nil {
		return fmt.Errorf("installing the CNI configuration: %w", err)
	}
	if err := attachment.RemoveFile(filepath.Join(c.ConfDir, formerConfListName)); err != nil {
		return fmt.Errorf("removing the CNI configuration of an earlier version: %w", err)
	}
	return nil
}

// Remove removes what Install wrote, the configuration first, and what an Install
// that was killed may have left; what is not there is no error.
func Remove(c Config) error {
	c = c.withDefaults()
	doomed := []string{c.confList(), filepath.Join(c.ConfDir, formerConfListName), c.plugin()}
	for _, f := range doomed {
		unfinished, err := filepath.Glob(filepath.Join(filepath.Dir(f), "."+filepath.Base(f)+".*"))
		if err != nil {
			return fmt.Errorf("looking for unfinished files: %w", err)
		}
		doomed = append(doomed, unfinished...)
	}
	var errs []error
	for _, f := range doomed {
		errs = append(errs, attachment.RemoveFile(f))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the CNI plugin: %w", err)
	}
	return nil
}

// confListFile is the content of the configuration.
type confListFile struct {
	CNIVersion string `json:"cniVersion"`
	// CNIVersions lets a runtime that knows the field take the newest of these; an
	// older runtime reads cniVersion. 1.1.0, which the plugin speaks, is left out: with
	// it containerd asks for STATUS and tells kubelet that the node is not ready while
	// the agent is restarted, and all its pods are taken out of their Services. An
	// agent that stays away the operator makes known by a taint.
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
	data, err := json.MarshalIndent(confListFile{
		CNIVersion: "1.0.0", CNIVersions: []string{"0.4.0", "1.0.0"},
		Name: "weft", Plugins: []pluginConf{p},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the CNI configuration: %w", err)
	}
	return append(data, '\n'), nil
}
