// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/weftmesh/weft/pkg/strictyaml"
)

// Load reads a configuration file. Only the one at DefaultPath may be absent:
// then everything has its default. The error names all that is wrong, one
// fault a line.
func Load(path string) (Config, error) {
	name := os.Getenv("NODE_NAME") // of a pod, by the downward API
	if name == "" {
		name, _ = os.Hostname() // without one the file has to name the node
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		data, err = nil, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data, strings.ToLower(name))
}

// Parse is Load for the content of a file; path is for messages.
func Parse(path string, data []byte, hostname string) (Config, error) {
	c := Default(hostname)
	podCIDRs := c.PodCIDRs
	c.PodCIDRs = nil
	docs, err := strictyaml.Parse(data)
	if err != nil {
		return Config{}, join(path, err)
	}
	if len(docs) > 1 {
		return Config{}, join(path, strictyaml.Error{Line: docs[1].Line(),
			Message: "a second document; the configuration is one: remove the line of ---"})
	}
	lineOf := func(string) int { return 0 }
	if len(docs) == 1 {
		if errs := docs[0].Decode(&c); len(errs) > 0 {
			return Config{}, join(path, asErrors(errs)...)
		}
		lineOf = docs[0].LineOf
	}
	if c.PodCIDRs == nil && !c.Kubernetes.Enabled {
		c.PodCIDRs = podCIDRs
	}
	c.setEntries()
	faults := c.validate()
	for i := range faults {
		faults[i].Line = lineOf(faults[i].Field)
	}
	if len(faults) > 0 {
		return Config{}, join(path, asErrors(faults)...)
	}
	if c.ClusterCIDRs == nil { // only outside of Kubernetes
		c.ClusterCIDRs = c.PodCIDRs
	}
	return c, nil
}

func asErrors(in []strictyaml.Error) []error {
	out := make([]error, len(in))
	for i, e := range in {
		out[i] = e
	}
	return out
}

// join puts the file's name before each fault: path:line: field: message.
func join(path string, faults ...error) error {
	var out []error
	for _, f := range faults {
		var e strictyaml.Error
		if errors.As(f, &e) && e.Line > 0 {
			out = append(out, fmt.Errorf("%s:%w", path, f))
		} else {
			out = append(out, fmt.Errorf("%s: %w", path, f))
		}
	}
	return errors.Join(out...)
}
