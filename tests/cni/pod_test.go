// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netns"

	"github.com/weftmesh/weft/pkg/attachment"
)

const commitTimeout = 500 * time.Millisecond

// pod is a network namespace that the plugin is to attach.
type pod struct {
	h           *host
	name        string
	containerID string
	netns       string
	version     string
	extra       map[string]any // added to the network configuration
	args        string         // CNI_ARGS instead of the usual
	result      *current.Result
}

// newPod makes the namespace and, in the agent's tables, the workload.
func (h *host) newPod(name string) *pod {
	h.t.Helper()
	h.addPod(name)
	p := &pod{h: h, name: name, containerID: fmt.Sprintf("c-%s-%d", name, time.Now().UnixNano()), version: "1.1.0"}
	p.netns = makeNetNS(h.t, p.containerID)
	return p
}

// makeNetNS makes a named network namespace and leaves the caller where it is.
func makeNetNS(t *testing.T, name string) string {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	made, err := netns.NewNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	made.Close()
	if err := netns.Set(own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netns.DeleteNamed(name) }) // a test may have deleted it
	return "/run/netns/" + name
}

func (p *pod) key() attachment.Key {
	return attachment.Key{ContainerID: p.containerID, IfName: "eth0"}
}

// call runs the plugin and answers what it printed, or its error.
func (p *pod) call(command string, conf map[string]any) ([]byte, *types.Error) {
	p.h.t.Helper()
	full := map[string]any{
		"cniVersion": p.version, "name": "weft", "type": "weft-cni",
		"socket": p.h.socket(), "stateDir": p.h.dir,
	}
	maps.Copy(full, p.extra)
	maps.Copy(full, conf)
	stdin, err := json.Marshal(full)
	if err != nil {
		p.h.t.Fatal(err)
	}
	args := p.args
	if args == "" {
		args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.name + ";OTHER=x"
	}
	cmd := exec.Command(pluginBin)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.containerID, "CNI_NETNS=" + p.netns,
		"CNI_IFNAME=eth0", "CNI_ARGS=" + args, "CNI_PATH=/run",
	}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	e := &types.Error{}
	if json.Unmarshal(out, e) != nil || e.Msg == "" {
		p.h.t.Fatalf("%s failed with %v and printed %q", command, err, out)
	}
	return nil, e
}

func (p *pod) add() (*current.Result, *types.Error) {
	p.h.t.Helper()
	out, e := p.call("ADD", nil)
	if e != nil {
		return nil, e
	}
	raw, err := create.Create(p.version, out)
	if err != nil {
		p.h.t.Fatalf("decoding the result %s: %v", out, err)
	}
	r, err := current.NewResultFromResult(raw)
	if err != nil {
		p.h.t.Fatal(err)
	}
	return r, nil
}

func (p *pod) mustAdd() *current.Result {
	p.h.t.Helper()
	r, e := p.add()
	if e != nil {
		p.h.t.Fatalf("ADD: %v (code %d, %s)", e, e.Code, e.Details)
	}
	return r
}

func (p *pod) mustDel() {
	p.h.t.Helper()
	if _, e := p.call("DEL", nil); e != nil {
		p.h.t.Fatalf("DEL: %v (code %d, %s)", e, e.Code, e.Details)
	}
}

// check runs CHECK with what ADD returned.
func (p *pod) check(prev *current.Result) *types.Error {
	p.h.t.Helper()
	_, e := p.call("CHECK", map[string]any{"prevResult": prev})
	return e
}

// in runs f in the pod's namespace.
func (p *pod) in(f func()) {
	p.h.t.Helper()
	if err := ns.WithNetNSPath(p.netns, func(ns.NetNS) error { f(); return nil }); err != nil {
		p.h.t.Fatal(err)
	}
}

// do changes something in the pod's namespace.
func (p *pod) do(f func() error) {
	p.h.t.Helper()
	var err error
	p.in(func() { err = f() })
	must(p.h.t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen serves TCP in the pod and echoes one line's worth of bytes.
func (p *pod) listen(addr netip.Addr) string {
	p.h.t.Helper()
	var l net.Listener
	var err error
	p.in(func() { l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String()) })
	return serveEcho(p.h.t, l, err)
}

func serveEcho(t *testing.T, l net.Listener, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(conn, conn, 4)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// echo connects, and expects its four bytes back.
func echo(address string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("weft")); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err == nil && string(got) != "weft" {
		err = fmt.Errorf("got %q back", got)
	}
	return err
}
