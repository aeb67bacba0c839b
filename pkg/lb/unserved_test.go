// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// What of a service is not served is told for each port, by its address.
func TestWhatIsNotServed(t *testing.T) {
	s := webService()
	s.Type = model.ServiceLoadBalancer
	s.Ports[0].NodePort = 30080
	s.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.5")}
	s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("2001:db8::9")}
	out := compileWeb(s, webSlice("a", up("10.0.0.1"), up("fd00::a")))
	var got []string
	for _, u := range out.Services[0].Unserved() {
		if u.Reason == "" || u.PortName != "http" || u.Protocol != model.ProtoTCP {
			t.Errorf("%+v", u)
		}
		got = append(got, u.Address)
	}
	want := []string{"*:30080", "203.0.113.5:80", "[2001:db8::9]:80"}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("not served: %q, want %q", got, want)
	}
	if out.Services[0].Reason != "" || len(out.Frontends) != 2 {
		t.Errorf("cluster addresses: %q, %d front ends", out.Services[0].Reason, len(out.Frontends))
	}
	s.Type = model.ServiceClusterIP
	s.ExternalIPs, s.LoadBalancerIPs = nil, nil
	if plain := compileWeb(s); len(plain.Services[0].Unserved()) != 0 {
		t.Errorf("of a service inside alone: %+v", plain.Services[0].Unserved())
	}
}
