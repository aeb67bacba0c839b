// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// wantError checks code and text of a plugin's error.
func wantError(t *testing.T, e *types.Error, code uint, text string) {
	t.Helper()
	switch {
	case e == nil:
		t.Errorf("no error; want code %d and %q", code, text)
	case e.Code != code || !strings.Contains(e.Msg, text):
		t.Errorf("got code %d, %q (%s); want code %d and %q", e.Code, e.Msg, e.Details, code, text)
	}
}

func TestAddFailsClosedWithoutAgent(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	h.stopAgent()
	_, e := p.add()
	wantError(t, e, types.ErrTryAgainLater, "the weft agent does not answer on "+h.socket()+": connect: no such file or directory; is weft-agent running?")
	h.wantNothing(p)
	if list, _ := attachment.Tombstones(h.dir); len(list) != 0 {
		t.Errorf("an ADD that did nothing left tombstones: %v", list)
	}
}

// Each step of ADD is made to fail; nothing may stay of it, and the next ADD of
// the same pod must work.
func TestAddRollsBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  uint
		text  string
		spoil func(h *host, p *pod)
		mend  func(h *host, p *pod)
	}{
		{"unknown pod", 101, "pod default/a is not known to this node",
			func(h *host, _ *pod) { h.tables.pods = map[model.PodKey]model.Pod{} },
			func(h *host, _ *pod) { h.addPod("a") }},
		{"table refuses", 100, "no room in the table",
			func(h *host, _ *pod) { h.tables.upsertErr = errors.New("no room in the table") },
			func(h *host, _ *pod) { h.tables.upsertErr = nil }},
		{"interface exists in the pod", types.ErrIOFailure, "in the pod: a device eth0 exists already",
			func(_ *host, p *pod) { p.do(func() error { return addVeth("eth0", "x") }) },
			func(_ *host, p *pod) { p.do(func() error { return delLink("eth0") }) }},
		{"device exists on the host", types.ErrIOFailure, "on the host: a device wf",
			func(_ *host, p *pod) { must(t, addVeth(p.key().HostDevice(), "other")) },
			func(*host, *pod) {}},
		{"policy refused", 103, "pod default/a: its policy did not get into the kernel within 500ms: map is full",
			func(h *host, _ *pod) {
				h.kernel.set(func(context.Context, uint32) error { return errors.New("map is full") })
			},
			func(h *host, _ *pod) { h.kernel.set(nil) }},
		{"policy late", 103, "its policy did not get into the kernel within 500ms: context deadline exceeded",
			func(h *host, _ *pod) {
				h.kernel.set(func(ctx context.Context, _ uint32) error { <-ctx.Done(); return ctx.Err() })
			},
			func(h *host, _ *pod) { h.kernel.set(nil) }},
		{"host's side", types.ErrIOFailure, "on the host: ",
			func(h *host, p *pod) {
				h.kernel.set(func(context.Context, uint32) error { return rename(p.key().HostDevice(), "elsewhere") })
			},
			func(h *host, _ *pod) { h.kernel.set(nil); must(t, delLink("elsewhere")) }},
		{"pod's side", types.ErrIOFailure, "in the pod: ",
			func(h *host, p *pod) {
				h.kernel.set(func(context.Context, uint32) error {
					p.do(func() error { return rename("eth0", "elsewhere") })
					return nil
				})
			},
			func(h *host, _ *pod) { h.kernel.set(nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, range4, range6)
			p := h.newPod("a")
			c.spoil(h, p)
			_, e := p.add()
			wantError(t, e, c.code, c.text)
			c.mend(h, p)
			h.wantNothing(p)
			p.mustAdd()
		})
	}
}

func TestAgentStopsDuringAdd(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	stopped := make(chan struct{})
	h.kernel.set(func(ctx context.Context, _ uint32) error { // dies with the question unanswered
		go func() { defer close(stopped); h.stop() }()
		<-ctx.Done()
		return ctx.Err()
	})
	_, e := p.add()
	wantError(t, e, types.ErrTryAgainLater, "the weft agent does not answer")
	<-stopped
	h.stop = nil
	h.wantNothing(p)
	h.kernel.set(nil)
	h.start()
	h.wantNothing(p)
	p.mustAdd()
}

func TestSecondAddIsRefused(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	r := p.mustAdd()
	_, e := p.add()
	wantError(t, e, 100, "has an interface eth0 already; a DEL must come before another ADD")
	if e := p.check(r); e != nil {
		t.Errorf("the refused ADD harmed the first one: %v", e)
	}
}

func TestAddressesRunOut(t *testing.T) {
	h := newHost(t, netip.MustParsePrefix("10.18.0.0/29"), range6) // 5 for pods
	var pods []*pod
	for range 5 {
		p := h.newPod("a")
		p.mustAdd()
		pods = append(pods, p)
	}
	p := h.newPod("a")
	_, e := p.add()
	wantError(t, e, 102, "no free address in the pod range 10.18.0.0/29")
	h.wantNothing(p)
	_, e = p.call("STATUS", nil)
	wantError(t, e, types.ErrPluginNotAvailable, "no free address in the pod range 10.18.0.0/29")
	pods[2].mustDel()
	p.mustAdd()
}

func TestBadInputIsRefused(t *testing.T) {
	h := newHost(t, range4, range6)
	for _, c := range []struct {
		name, text string
		code       uint
		spoil      func(p *pod)
	}{
		{"no pod named", "CNI_ARGS has no K8S_POD_NAMESPACE", types.ErrInvalidEnvironmentVariables, func(p *pod) { p.args = "IgnoreUnknown=1" }},
		{"unknown argument", "CNI_ARGS: ", types.ErrInvalidEnvironmentVariables, func(p *pod) { p.args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;FOO=1" }},
		{"bad pod name", "is not a name", types.ErrInvalidEnvironmentVariables, func(p *pod) { p.args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=../a" }},
		{"bad socket", "socket: ", types.ErrInvalidNetworkConfig, func(p *pod) { p.extra = map[string]any{"socket": "cni.sock"} }},
		{"wrong type", "cannot be decoded", types.ErrDecodingFailure, func(p *pod) { p.extra = map[string]any{"stateDir": 7} }},
		{"IPAM", "the weft agent gives out the addresses", types.ErrInvalidNetworkConfig, func(p *pod) { p.extra = map[string]any{"ipam": map[string]any{"type": "host-local"}} }},
		{"chained after another", "the first plugin of the list", types.ErrInvalidNetworkConfig, func(p *pod) { p.extra = map[string]any{"prevResult": map[string]any{}} }},
		{"no namespace there", "CNI_NETNS: ", types.ErrInvalidNetNS, func(p *pod) { p.netns = "/run/netns/none" }},
		{"not a namespace", "CNI_NETNS", types.ErrInvalidNetNS, func(p *pod) { p.netns = pluginBin }},
		{"the host's namespace", "is the host's own", types.ErrInvalidNetNS, func(p *pod) { p.netns = "/proc/self/ns/net" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := h.newPod("a")
			c.spoil(p)
			_, e := p.add()
			wantError(t, e, c.code, c.text)
			if n := len(h.tables.list()); n != 0 {
				t.Errorf("%d endpoints are left", n)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	if _, e := p.call("STATUS", nil); e != nil {
		t.Errorf("STATUS: %v", e)
	}
	h.notReady = errors.New("manifests have not been read yet")
	_, e := p.call("STATUS", nil)
	wantError(t, e, types.ErrPluginNotAvailable, "the weft agent is not ready: manifests have not been read yet")
	_, e = p.add()
	wantError(t, e, types.ErrTryAgainLater, "the weft agent is not ready: manifests have not been read yet")
	h.stopAgent()
	_, e = p.call("STATUS", nil)
	wantError(t, e, types.ErrPluginNotAvailable, "is weft-agent running?")
	if err := os.WriteFile(h.socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, e = p.call("STATUS", nil)
	wantError(t, e, types.ErrPluginNotAvailable, "connection refused; is weft-agent running?")
}

func TestVersion(t *testing.T) {
	h := newHost(t, range4, range6)
	p := h.newPod("a")
	out, e := p.call("VERSION", nil)
	if e != nil || !strings.Contains(string(out), `"1.1.0"`) {
		t.Errorf("VERSION printed %s, %v", out, e)
	}
	p.version = "0.2.0"
	_, e = p.add()
	wantError(t, e, types.ErrIncompatibleCNIVersion, "incompatible CNI versions")
}

// A commit that waits holds up nobody else.
func TestAttachmentsDoNotWaitForEachOther(t *testing.T) {
	h := newHost(t, range4, range6)
	slow, fast := h.newPod("slow"), h.newPod("fast")
	waiting := make(chan struct{})
	release := make(chan struct{})
	h.kernel.set(func(context.Context, uint32) error { close(waiting); <-release; return nil })
	done := make(chan *types.Error, 1)
	go func() { _, e := slow.add(); done <- e }()
	select {
	case <-waiting:
	case <-time.After(10 * time.Second):
		t.Fatal("the first ADD never came to wait")
	}
	h.kernel.set(nil)
	fast.mustAdd()
	close(release)
	if e := <-done; e != nil {
		t.Errorf("the slow ADD: %v", e)
	}
}
