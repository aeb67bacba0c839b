// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Spec says what a machine is.
type Spec struct {
	Hostname string
	// Node: the machine has files of its own (/run, /etc, /opt, /var and bpffs),
	// and is in cgroups of its own.
	Node bool
	// CgroupName is the name of a node's groups; every hierarchy of the machine
	// outside gets one. It says whose they are, also to who finds them abandoned.
	CgroupName string
	// Bound: it ends with the process that started it.
	Bound bool
	// Disk are folders below /var that outlive a reboot.
	Disk []string
	// Files are written before the services start: path to content; a path that ends
	// in / is a folder.
	Files map[string]string
	// Sysctls are written in the machine's network namespace: net/ipv4/ip_forward to 1.
	Sysctls map[string]string
	// Pretend are files below /proc/sys that a service wants to set and that are
	// the whole computer's: it finds the value there and its writes go nowhere.
	Pretend map[string]string
	// Proxy is the address inside to which the listener is connected that Start
	// was given; empty: there is none.
	Proxy string
	// Services are started together; each waits for its own conditions.
	Services []Service

	Groups []Group // filled in by Start
}

// Service is a program that is kept running.
type Service struct {
	Name string // of its log, and by which it is found
	Args []string
	Env  []string // in addition to the machine's
	// After are conditions to wait for, 30 seconds at most:
	// unix:PATH (somebody listens) and https://… (answers with status 200).
	After []string
}

// file is a path in the machine's folder.
func file(dir, name string) string { return filepath.Join(dir, name) }

// Load reads the Spec of a machine's folder.
func Load(dir string) (*Spec, error) {
	var s Spec
	if err := readJSON(file(dir, "machine.json"), &s); err != nil {
		return nil, fmt.Errorf("reading what machine %s is: %w", filepath.Base(dir), err)
	}
	return &s, nil
}

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file as a whole or leaves it as it is.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
