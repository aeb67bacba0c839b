// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/podnet"
)

func someSpec() podnet.Spec {
	key := attachment.Key{ContainerID: "c", IfName: "eth0"}
	return podnet.Spec{
		IfName: "eth0", HostIfName: key.HostDevice(), MAC: key.PodMAC(), HostMAC: key.HostMAC(), MTU: 1500,
		IPv4: netip.MustParseAddr("10.0.0.2"), IPv6: netip.MustParseAddr("fd00::2"),
	}
}

// An answer of the agent that cannot be right is refused before any device is made.
func TestAgentsAnswerIsChecked(t *testing.T) {
	req := request{key: attachment.Key{ContainerID: "c", IfName: "eth0"}}
	good := func() *agentv1.PrepareResponse {
		return &agentv1.PrepareResponse{
			HostIfname: req.key.HostDevice(), Mtu: 1500, Mac: "02:00:00:00:00:01", HostMac: "02:00:00:00:00:02",
			Ipv4: "10.0.0.2", Ipv6: "fd00::2",
		}
	}
	if s, err := specOf(req, good()); err != nil || s.IPv4.String() != "10.0.0.2" {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, spoil := range map[string]func(r *agentv1.PrepareResponse){
		"device":   func(r *agentv1.PrepareResponse) { r.HostIfname = "eth0" },
		"MAC":      func(r *agentv1.PrepareResponse) { r.Mac = "x" },
		"group":    func(r *agentv1.PrepareResponse) { r.Mac = "01:00:00:00:00:01" },
		"long MAC": func(r *agentv1.PrepareResponse) { r.HostMac = "02:00:00:00:00:00:00:01" },
		"MTU":      func(r *agentv1.PrepareResponse) { r.Mtu = 1000 },
		"no MTU":   func(r *agentv1.PrepareResponse) { r.Mtu = 0 },
		"families": func(r *agentv1.PrepareResponse) { r.Ipv4, r.Ipv6 = r.Ipv6, r.Ipv4 },
		"address":  func(r *agentv1.PrepareResponse) { r.Ipv4 = "10.0.0" },
		"none":     func(r *agentv1.PrepareResponse) { r.Ipv4, r.Ipv6 = "", "" },
	} {
		r := good()
		spoil(r)
		if _, err := specOf(req, r); err == nil {
			t.Errorf("%s: the answer was taken", name)
		}
	}
}

func TestRollBackReportsTheCauseFirst(t *testing.T) {
	var order []string
	step := func(name string, err error) func() error {
		return func() error { order = append(order, name); return err }
	}
	cause := types.NewError(103, "the cause", "")
	err := rollBack(cause, []func() error{step("first", errors.New("stuck")), step("second", nil)})
	var e *types.Error
	if !errors.As(err, &e) || e.Code != 103 || e.Msg != "the cause" || !strings.Contains(e.Details, "stuck") {
		t.Errorf("got %#v", err)
	}
	if strings.Join(order, " ") != "second first" {
		t.Errorf("undone in the order %v", order)
	}
	if err := rollBack(errors.New("plain"), nil); !isCNIError(err) {
		t.Errorf("got %#v", err)
	}
}

// Only an attempt of which nothing is left, and that failed for the agent's absence, is
// made again.
func TestOnlyAnAgentThatIsAwayIsWaitedFor(t *testing.T) {
	gone := away("/run/x.sock", errors.New("connection refused"))
	stuck := func() error { return errors.New("stuck") }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"done":      {nil, false},
		"away":      {rollBack(gone, nil), true},
		"not ready": {rollBack((&agent{}).explain(status.Error(codes.FailedPrecondition, "waiting")), nil), true},
		"left over": {rollBack(gone, []func() error{stuck}), false},
		"refused":   {rollBack((&agent{}).explain(status.Error(codes.NotFound, "no such pod")), nil), false},
		"no device": {rollBack(errors.New("no such device"), nil), false},
	} {
		if got := mayPass(c.err); got != c.want {
			t.Errorf("%s: tried again: %v", name, got)
		}
	}
}
