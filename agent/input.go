// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/operator/allocator"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/manifest"
	"github.com/weftmesh/weft/pkg/model"
)

// input is where the agent learns what is asked for, and what goes with it: on a
// plain host a folder of manifests, in a cluster an API server.
type input struct {
	name    string // in weft status
	parts   map[string]func(context.Context) error
	restore func(context.Context) error // takes up what a former agent left
	waiting func() string               // what the first whole state waits for; "": it is there
	ready   func() error                // what /readyz says
	// watchPod lets an ADD wait for its pod, of which the runtime may hear first; nil:
	// a pod that is not there is not coming.
	watchPod   func(model.PodKey) (model.Pod, bool, <-chan struct{})
	components []func() *agentv1.ComponentStatus
}

// chooseInput decides between the two.
func (a *agent) chooseInput(node engine.Node) input {
	if a.cfg.Kubernetes.Enabled {
		return a.kubernetesInput()
	}
	return a.manifestInput(node)
}

// manifestInput is the folder, and an allocator of identities of the node's own.
func (a *agent) manifestInput(node engine.Node) input {
	folder := manifest.New(manifest.Config{Dir: a.cfg.Manifests, Copies: filepath.Join(a.cfg.StateDir, "manifests")},
		manifestSink{tables: a.tables, problems: a.problems}, a.log.With("part", "manifests"))
	store := allocator.NewFileStore(filepath.Join(a.cfg.StateDir, "identities.json"))
	ids := &identityLoop{log: a.log.With("part", "identities"), node: node, tables: a.tables,
		allocator: allocator.New(allocator.Config{Store: store, Now: time.Now})}
	return input{
		name: "manifest", ready: a.health,
		parts: map[string]func(context.Context) error{"manifests": folder.Run, "identities": ids.Run},
		restore: func(ctx context.Context) error {
			if err := ids.allocator.Load(ctx); err != nil {
				return err
			}
			_, err := a.tables.ReplaceIdentities(ids.allocator.List())
			return err
		},
		waiting: func() string {
			if a.tables.Synced() {
				return ""
			}
			return "the manifest folder has not been read yet"
		},
		components: []func() *agentv1.ComponentStatus{a.problems.status(func() (string, string, error) {
			return "manifests", a.cfg.Manifests, nil
		})},
	}
}

// readyToAttach tells why the agent cannot attach pods yet.
func (a *agent) readyToAttach() error {
	if w := a.input.waiting(); w != "" {
		return errors.New(w + "; try again in a moment")
	}
	if a.tunnel == nil {
		return nil
	}
	if err := a.tunnel.Ready(); err != nil {
		return fmt.Errorf("the tunnel to other nodes is not there: %w", err)
	}
	return nil
}
