// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"net"
	"net/netip"
	"testing"
)

func TestAddressOfAWholeSubnet(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1/24":         "192.0.2.255",
		"10.1.2.3/8":           "10.255.255.255",
		"10.1.2.5/30":          "10.1.2.7",
		"10.1.2.4/31":          "",
		"10.1.2.4/32":          "",
		"2001:db8::1/64":       "2001:db8::",
		"2001:db8:0:1:2::3/56": "2001:db8::",
		"2001:db8::5/126":      "2001:db8::4",
		"2001:db8::5/127":      "",
		"2001:db8::5/128":      "",
	} {
		p := netip.MustParsePrefix(addr)
		got, ok := wholeSubnet(p.Addr(), net.CIDRMask(p.Bits(), p.Addr().BitLen()))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v, want %q", addr, got, ok, want)
		}
	}
}
