// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"testing"

	"github.com/weftmesh/weft/agent/nodenet"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// A device that was named and is not there makes the status degraded, by its name.
func TestMissingUplinkIsInTheStatus(t *testing.T) {
	a := agent{uplinks: nodenet.NewUplinks(nodenet.UplinksConfig{IPv4: true, Devices: []string{"no-such-device"}}, nil,
		func([]model.Uplink) error { return nil }, slog.New(slog.DiscardHandler))}
	if err := a.uplinks.Refresh(); err != nil {
		t.Fatal(err)
	}
	const want = "no-such-device does not exist (masquerade.devices); no device to the outside; packets leave with the pods' addresses"
	if s := a.uplinkStatus(); s.GetHealth() != agentv1.Health_HEALTH_DEGRADED || s.GetMessage() != want {
		t.Errorf("status is %v", s)
	}
}
