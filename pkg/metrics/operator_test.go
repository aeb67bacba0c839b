// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOperatorTableAndRegistryAgree(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := NewOperator(reg, "1.2.3")
	o.SetLeader(true)
	o.SetIdentities(7)
	o.Allocation("created")
	o.Collected("WeftIdentity", 2)
	o.SetPool("10.244.0.0/16", 3, 256)
	o.SetNodes(4, 1)
	o.ReconcileError("Pod")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(OperatorDefinitions()) {
		t.Errorf("%d metrics are exported, the table has %d", len(families), len(OperatorDefinitions()))
	}
	for _, f := range families {
		d := operatorDefinition(f.GetName()) // panics if it is not in the table
		if f.GetHelp() != d.Help || !strings.EqualFold(f.GetType().String(), typeName(d)) || len(f.GetMetric()[0].GetLabel()) != len(d.Labels) {
			t.Errorf("%s is exported as %v", d.Name, f)
		}
	}
	_, body := get(t, Handler(reg, Health{}, quiet()), "/metrics")
	for _, want := range []string{
		`weft_operator_build_info{version="1.2.3"} 1`, `weft_operator_leader 1`, `weft_operator_identities 7`,
		`weft_operator_identity_allocations_total{result="created"} 1`, `weft_operator_identity_allocations_total{result="exhausted"} 0`,
		`weft_operator_collected_total{kind="WeftIdentity"} 2`, `weft_operator_pool_blocks{range="10.244.0.0/16",state="free"} 253`,
		`weft_operator_nodes{ready="no"} 1`, `weft_operator_reconcile_errors_total{kind="Pod"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	o.SetLeader(false)
	if _, body := get(t, Handler(reg, Health{}, quiet()), "/metrics"); !strings.Contains(body, "weft_operator_leader 0\n") {
		t.Error("it still leads")
	}
}
