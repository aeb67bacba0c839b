// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"
)

// keys must not stay, or one pod fills the table of all.
func TestRefusedCallsHoldNoTranslation(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		n.policy(n.b)
		call := func(port uint16) func() uint32 {
			return func() uint32 {
				v, _, _, _ := n.sends(n.a, f, n.a.at(f, port), vip.at(f, 80), proto, message(f, proto, port, 80, false))
				return v
			}
		}
		n.dropped(policyDefault, ingress, call(9000))
		if e := n.event(); e.Service == 0 || e.Backend == 0 {
			t.Errorf("a refused call names service %d, backend %d", e.Service, e.Backend)
		}
		for port := range uint16(3 * natEntries) {
			n.dropped(policyDefault, ingress, call(2000+port))
		}
		n.keys("after a flood that policy refused", f, 0)
		// A flow that was let pass keeps its backend while policy refuses it.
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.passes(actRedirect, call(4000))
		n.policy(n.b)
		n.dropped(policyDefault, ingress, call(4000))
		n.keys("of a flow that is known", f, 2)
	})
}

