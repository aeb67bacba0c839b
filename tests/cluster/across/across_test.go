// SPDX-License-Identifier: Apache-2.0

package across

import "testing"

func TestNative(t *testing.T) { modeTests(t, native()) }

func TestVXLAN(t *testing.T) { modeTests(t, vxlan()) }

// modeTests are what holds in every mode.
func modeTests(t *testing.T, m mode) {
	c := newTown(t, m)
	c.part(t, "everybody is reached", reached)
	c.part(t, "packets have the right size", sizes)
	c.part(t, "who may come is decided and told", ingress)
	c.part(t, "where one may go is decided and told", egress)
	c.part(t, "what is forged is dropped and counted", forged)
	c.part(t, "nobody is faster than its policy", raced)
}
