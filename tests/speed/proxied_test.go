// SPDX-License-Identifier: Apache-2.0

//go:build l7

package speed

import (
	"context"
	"errors"
	"fmt"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// envoySetting has a node's agent start the stock Envoy when a rule asks for it.
func envoySetting(tb testing.TB) string {
	tb.Helper()
	binary, err := sandbox.Envoy()
	ok(tb, err)
	return "envoy: {binary: " + binary + "}"
}

// proxyReady waits until Envoy has all rulesets, of which there are so many.
func (n *node) proxyReady(count int) {
	n.Helper()
	ok(n, sandbox.Eventually(context.Background(), soon, "rulesets ready", func() error {
		list, err := n.agent.API().ListRulesets(context.Background(), &agentv1.ListRulesetsRequest{})
		if err != nil {
			return err
		}
		if got := len(list.GetRulesets()); got != count {
			return fmt.Errorf("there are %d, want %d", got, count)
		}
		for _, r := range list.GetRulesets() {
			if r.GetReady() != agentv1.Readiness_READINESS_YES {
				return errors.New(r.String())
			}
		}
		return nil
	}))
	n.status(true)
}

// envoyPID is the node's Envoy.
func envoyPID(tb testing.TB) int {
	tb.Helper()
	pid, err := sandbox.PIDIn("/run/weft/envoy.pid")
	ok(tb, err)
	return pid
}
