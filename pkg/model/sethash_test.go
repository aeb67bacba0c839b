// SPDX-License-Identifier: Apache-2.0

package model

import "testing"

func TestHashEntries(t *testing.T) {
	a := PolicyEntry{Direction: Ingress, Peer: 256, Protocol: ProtoTCP, Port: 80, PortBits: 16, Action: ActionAllow, Precedence: 1, Rule: 7}
	b := a
	b.Port = 81
	if got := HashEntries(nil); got != (SetHash{}) {
		t.Errorf("the empty set has hash %x, want zero", got)
	}
	input := []PolicyEntry{b, a}
	if HashEntries(input) != HashEntries([]PolicyEntry{a, b}) {
		t.Error("the order of entries changes the hash")
	}
	if input[0] != b {
		t.Error("hashing reordered the caller's entries")
	}
	for name, change := range map[string]func(*PolicyEntry){
		"direction": func(e *PolicyEntry) { e.Direction = Egress }, "peer": func(e *PolicyEntry) { e.Peer++ },
		"protocol": func(e *PolicyEntry) { e.Protocol++ }, "port": func(e *PolicyEntry) { e.Port++ },
		"length": func(e *PolicyEntry) { e.PortBits-- }, "action": func(e *PolicyEntry) { e.Action = ActionDeny },
		"precedence": func(e *PolicyEntry) { e.Precedence++ }, "ruleset": func(e *PolicyEntry) { e.Ruleset++ },
		"rule": func(e *PolicyEntry) { e.Rule++ },
	} {
		c := a
		change(&c)
		if HashEntries([]PolicyEntry{a}) == HashEntries([]PolicyEntry{c}) {
			t.Errorf("another %s leaves the hash as it was", name)
		}
	}
}
