// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/pkg/model"
)

func TestAttachAndDetach(t *testing.T) {
	for _, c := range []struct {
		name   string
		v4, v6 netip.Prefix
		ips    int
	}{
		{"dual stack", range4, range6, 2},
		{"IPv4 only", range4, netip.Prefix{}, 1},
		{"IPv6 only", netip.Prefix{}, range6, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, c.v4, c.v6)
			setUpNode(t, h)
			a, b := h.newPod("a"), h.newPod("b")
			ra, rb := a.mustAdd(), b.mustAdd()
			if len(ra.IPs) != c.ips || len(ra.Routes) != c.ips || len(ra.Interfaces) != 2 {
				t.Fatalf("ADD returned %+v", ra)
			}
			for i := range ra.IPs {
				wantTraffic(t, a, b, addrOf(ra.IPs[i].Address), addrOf(rb.IPs[i].Address))
			}
			for _, p := range []*pod{a, b} {
				r := ra
				if p == b {
					r = rb
				}
				if e := p.check(r); e != nil {
					t.Errorf("CHECK: %v", e)
				}
				p.mustDel()
				h.wantNothing(p)
				p.mustDel() // a DEL may be repeated
			}
		})
	}
}

func setUpNode(t *testing.T, h *host) {
	t.Helper()
	var ranges []netip.Prefix
	for _, r := range h.ranges {
		if r.IsValid() {
			ranges = append(ranges, r)
		}
	}
	if err := nodenet.SetUp(ranges); err != nil {
		t.Fatal(err)
	}
}

func addrOf(n net.IPNet) netip.Addr {
	a, _ := netip.AddrFromSlice(n.IP)
	return a.Unmap()
}

// wantTraffic: host to pod, pod to host, pod to pod, pod to itself.
func wantTraffic(t *testing.T, a, b *pod, ipA, ipB netip.Addr) {
	t.Helper()
	hostIP := netip.MustParseAddr(hostIPv4)
	if ipA.Is6() {
		hostIP = netip.MustParseAddr(hostIPv6)
	}
	onA, onB := a.listen(ipA), b.listen(ipB)
	l, err := net.Listen("tcp", netip.AddrPortFrom(hostIP, 0).String())
	onHost := serveEcho(t, l, err)
	if err := echo(onA); err != nil {
		t.Errorf("host to pod %s: %v", ipA, err)
	}
	a.in(func() {
		for name, address := range map[string]string{"host": onHost, "other pod": onB, "itself": onA} {
			if err := echo(address); err != nil {
				t.Errorf("pod %s to %s %s: %v", ipA, name, address, err)
			}
		}
	})
}

func TestNoNetworkBeforeCommit(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	var state string
	h.kernel.set(func(context.Context, uint32) error {
		p.in(func() {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				state = err.Error()
				return
			}
			addrs, _ := netlink.AddrList(link, netlink.FAMILY_ALL)
			if link.Attrs().Flags&net.FlagUp != 0 || len(addrs) != 0 {
				state = "the pod's device is up or has an address before its policy is in the kernel"
			}
		})
		if eps := h.tables.list(); len(eps) != 1 || eps[0].State != model.EndpointReady || eps[0].HostIfIndex == 0 {
			state = "the endpoint's table does not have the endpoint with its device"
		}
		return nil
	})
	p.mustAdd()
	if state != "" {
		t.Error(state)
	}
}

func TestVersionsOfTheResult(t *testing.T) {
	h := newHost(t, range4, range6)
	for _, v := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		p := h.newPod("a")
		p.version = v
		if r := p.mustAdd(); len(r.IPs) != 2 {
			t.Errorf("version %s: %+v", v, r)
		}
		p.mustDel()
	}
}

func TestManyPodsAtOnce(t *testing.T) {
	const pods, workers = 60, 6
	h := newHost(t, range4, range6)
	var all []*pod
	for i := range pods {
		all = append(all, h.newPod(fmt.Sprintf("p%d", i)))
	}
	each := func(f func(p *pod) *types.Error) {
		t.Helper()
		queue := make(chan *pod, pods)
		for _, p := range all {
			queue <- p
		}
		close(queue)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for p := range queue {
					if e := f(p); e != nil {
						t.Errorf("pod %s: %v (%s)", p.name, e, e.Details)
					}
				}
			})
		}
		wg.Wait()
	}
	each(func(p *pod) *types.Error { r, e := p.add(); p.result = r; return e })
	each(func(p *pod) *types.Error { return p.check(p.result) })
	seen := map[netip.Addr]bool{}
	for _, p := range all {
		for _, c := range p.result.IPs {
			if seen[addrOf(c.Address)] {
				t.Errorf("two pods have %s", c.Address.IP)
			}
			seen[addrOf(c.Address)] = true
		}
	}
	each(func(p *pod) *types.Error { _, e := p.call("DEL", nil); return e })
	for _, p := range all {
		h.wantNothing(p)
	}
}
