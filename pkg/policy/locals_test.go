// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"
	"testing"
)

// A prefix that is wanted twice, as by two policies, keeps its number like any
// other.
func TestAPrefixWantedTwiceKeepsItsNumber(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.0/24")
	first, err := NewLocals(nil).Update([]netip.Prefix{p})
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.Update([]netip.Prefix{p, p})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(first.IDs(), second.IDs()) {
		t.Errorf("%v became %v", first.IDs(), second.IDs())
	}
}
