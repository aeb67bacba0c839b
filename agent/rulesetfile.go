// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

// rulesetFile keeps the numbers of rulesets, and what those say that only old
// connections have, over a restart of the agent.
type rulesetFile struct{ path string }

// rulesetContent is the file's. Another version is not read: its numbers are lost, and
// given anew.
type rulesetContent struct {
	Version  int
	Rulesets []rulesets.Row
	Pairs    []rulesets.Pair `json:",omitempty"`
}

const rulesetVersion = 1

// Load implements engine.RulesetStore.
func (f rulesetFile) Load() ([]rulesets.Row, []rulesets.Pair, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the file of rulesets: %w", err)
	}
	var c rulesetContent
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", f.path, err)
	}
	if c.Version != rulesetVersion {
		return nil, nil, fmt.Errorf("%s is of version %d, this agent reads %d", f.path, c.Version, rulesetVersion)
	}
	return c.Rulesets, c.Pairs, nil
}

// Save implements engine.RulesetStore.
func (f rulesetFile) Save(rows []rulesets.Row, pairs []rulesets.Pair) error {
	data, err := json.MarshalIndent(rulesetContent{Version: rulesetVersion, Rulesets: rows, Pairs: pairs}, "", " ")
	if err != nil {
		return fmt.Errorf("encoding rulesets: %w", err)
	}
	return attachment.WriteFile(f.path, append(data, '\n'), 0o600)
}
