// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/tests/sandbox"
)

func TestDelWithoutAgentIsCompletedOnItsReturn(t *testing.T) {
	h := newHost(t, range4, range6)
	gone, stays := h.newPod("a"), h.newPod("b")
	gone.mustAdd()
	r := stays.mustAdd()
	h.stopAgent()
	gone.mustDel()
	gone.mustDel()
	h.wantNothing(gone)
	if !attachment.HasTombstone(h.dir, gone.key()) {
		t.Error("no tombstone was left")
	}
	h.start()
	h.wantNothing(gone)
	if attachment.HasTombstone(h.dir, gone.key()) {
		t.Error("the tombstone was not removed")
	}
	if e := stays.check(r); e != nil {
		t.Errorf("the pod that stayed: %v", e)
	}
	if eps := h.tables.list(); len(eps) != 1 || eps[0].IPv4 != addrOf(r.IPs[0].Address) {
		t.Errorf("endpoints after the restart: %+v", eps)
	}
	gone.mustAdd()
}

// An ADD waits for an agent that is being restarted, and for one that dies over it.
func TestAddOutlivesARestartOfTheAgent(t *testing.T) {
	h := newHost(t, range4, range6)
	p, q := h.newPod("a"), h.newPod("b")
	h.stopAgent()
	added := make(chan *types.Error, 1)
	go func() { // ends below
		_, e := p.add()
		added <- e
	}()
	select {
	case e := <-added:
		t.Fatalf("the ADD did not wait: %v", e)
	case <-time.After(time.Second):
	}
	h.start()
	if e := <-added; e != nil {
		t.Fatalf("ADD: %v (code %d, %s)", e, e.Code, e.Details)
	}
	stopped := make(chan struct{})
	h.kernel.set(func(ctx context.Context, _ uint32) error { // dies with the question unanswered
		h.kernel.set(nil)
		go func() { defer close(stopped); h.stop() }()
		<-ctx.Done()
		return ctx.Err()
	})
	go func() { // ends below
		_, e := q.add()
		added <- e
	}()
	<-stopped
	h.stop = nil
	h.start()
	if e := <-added; e != nil {
		t.Fatalf("ADD: %v (code %d, %s)", e, e.Code, e.Details)
	}
	if eps := h.tables.list(); len(eps) != 2 {
		t.Errorf("endpoints: %+v", eps)
	}
}

// A DEL that gave up on a slow agent leaves a tombstone; an ADD of the same
// attachment completes it first.
func TestAddAfterTombstone(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	p.mustAdd()
	if err := attachment.WriteTombstone(h.dir, p.key()); err != nil {
		t.Fatal(err)
	}
	must(t, delLink(p.key().HostDevice()))
	p.mustAdd()
	if attachment.HasTombstone(h.dir, p.key()) {
		t.Error("the tombstone is still there, and would remove the new attachment")
	}
}

func TestDelWhenEverythingIsGone(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	p.mustAdd()
	if err := netns.DeleteNamed(p.containerID); err != nil {
		t.Fatal(err)
	}
	err := sandbox.Eventually(t.Context(), 10*time.Second, "the device goes with its namespace", func() error {
		if index, err := (nodenet.Devices{}).Find(p.key().HostDevice()); err != nil || index != 0 {
			return fmt.Errorf("index %d, %v", index, err)
		}
		return nil
	})
	must(t, err)
	p.mustDel() // CNI_NETNS is a path that is not there any more
	h.wantNothing(p)
	p.netns = ""
	p.mustDel()
}

func TestEndpointWithoutDeviceIsReleasedAtStart(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	p.mustAdd()
	h.stopAgent()
	must(t, delLink(p.key().HostDevice()))
	h.start()
	h.wantNothing(p)
}

func TestRestartRepairsTheHostsSide(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	r := p.mustAdd()
	h.stopAgent()
	dev := p.key().HostDevice()
	must(t, flushRoutes(dev, netlink.FAMILY_V4))
	must(t, flushRoutes(dev, netlink.FAMILY_V6))
	must(t, flushNeighbours(dev, netlink.FAMILY_V6))
	h.start()
	if e := p.check(r); e != nil {
		t.Errorf("CHECK: %v", e)
	}
}

func TestCheckSeesWhatIsWrong(t *testing.T) {
	inPod := func(f func() error) func(*host, *pod) { return func(_ *host, p *pod) { p.do(f) } }
	onHost := func(f func(dev string) error) func(*host, *pod) {
		return func(_ *host, p *pod) { must(t, f(p.key().HostDevice())) }
	}
	for _, c := range []struct {
		name, text string
		code       uint
		spoil      func(h *host, p *pod)
	}{
		{"address", "in the pod: device eth0 lacks address 10.17.0.2", 100,
			inPod(func() error { return delAddr("eth0", "10.17.0.2/32") })},
		{"route", "in the pod: device eth0 lacks the route to 0.0.0.0/0", 100,
			inPod(func() error { return flushRoutes("eth0", netlink.FAMILY_V4) })},
		{"IPv6 route", "in the pod: device eth0 lacks the route to ::/0", 100,
			inPod(func() error { return flushRoutes("eth0", netlink.FAMILY_V6) })},
		{"neighbour", "lacks the permanent neighbour 169.254.1.1", 100,
			inPod(func() error { return flushNeighbours("eth0", netlink.FAMILY_V4) })},
		{"MTU", "has MTU 1300, not 1420", 100, inPod(func() error { return setMTU("eth0", 1300) })},
		{"host's route", "lacks the route to 10.17.0.2/32", 100,
			onHost(func(dev string) error { return flushRoutes(dev, netlink.FAMILY_V4) })},
		{"device down", "is down", 100, onHost(setDown)},
		{"device gone", "is missing", 100, onHost(delLink)},
		{"policy", "its policy is not in the kernel", 103, func(h *host, _ *pod) {
			h.kernel.set(func(context.Context, uint32) error { return context.DeadlineExceeded })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, range4, range6)
			p := h.newPod("a")
			r := p.mustAdd()
			if e := p.check(r); e != nil {
				t.Fatalf("CHECK: %v", e)
			}
			c.spoil(h, p)
			wantError(t, p.check(r), c.code, c.text)
		})
	}
}

// What a later plugin of the chain adds to the result and to the pod is its own.
func TestCheckLeavesChainedPluginsAlone(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	r := p.mustAdd()
	p.do(func() error { return addAddr("eth0", "198.51.100.7/32") })
	r.IPs = append(r.IPs, r.IPs[0].Copy())
	r.IPs[len(r.IPs)-1].Address = net.IPNet{IP: net.IPv4(198, 51, 100, 7), Mask: net.CIDRMask(32, 32)}
	if e := p.check(r); e != nil {
		t.Errorf("CHECK: %v", e)
	}
	r.IPs = r.IPs[1:]
	wantError(t, p.check(r), 100, "prevResult lacks the address 10.17.0.2")
	_, e := p.call("CHECK", nil)
	wantError(t, e, types.ErrInvalidNetworkConfig, "prevResult is missing")
	if _, e := p.call("DEL", map[string]any{"prevResult": r}); e != nil {
		t.Errorf("DEL with the chain's result: %v", e)
	}
}

func TestGarbageCollection(t *testing.T) {
	h := newHost(t, range4, range6)
	kept, lost, other := h.newPod("a"), h.newPod("b"), h.newPod("c")
	other.extra = map[string]any{"name": "second"}
	r := kept.mustAdd()
	lost.mustAdd()
	ro := other.mustAdd()
	_, e := kept.call("GC", nil)
	wantError(t, e, types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments is missing")
	valid := []map[string]string{{"containerID": kept.containerID, "ifname": "eth0"}}
	if _, e := kept.call("GC", map[string]any{"cni.dev/valid-attachments": valid}); e != nil {
		t.Fatalf("GC: %v", e)
	}
	h.wantNothing(lost)
	if e := kept.check(r); e != nil {
		t.Errorf("the valid one: %v", e)
	}
	if e := other.check(ro); e != nil {
		t.Errorf("the one of another network: %v", e)
	}
	if _, e := kept.call("GC", map[string]any{"cni.dev/valid-attachments": []any{}}); e != nil {
		t.Fatalf("GC: %v", e)
	}
	h.wantNothing(kept)
	h.stopAgent()
	_, e = kept.call("GC", map[string]any{"cni.dev/valid-attachments": []any{}})
	wantError(t, e, types.ErrTryAgainLater, "is weft-agent running?")
}

func TestCleanupLeavesNothing(t *testing.T) {
	h := newHost(t, range4, range6)
	setUpNode(t, h)
	p := h.newPod("a")
	p.mustAdd()
	h.stopAgent()
	for range 2 { // what is gone already is no error
		if err := nodenet.Cleanup(nodenet.CleanupConfig{StateDir: h.dir, Files: []string{h.socket()}}); err != nil {
			t.Fatal(err)
		}
	}
	h.wantNothing(p)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if d := r.Dst.String(); strings.HasPrefix(d, "10.17.") || strings.HasPrefix(d, "fd17:") {
				t.Errorf("route %v is left", r)
			}
		}
	}
	if _, err := os.Stat(h.dir); !os.IsNotExist(err) {
		t.Errorf("the state is left: %v", err)
	}
}
