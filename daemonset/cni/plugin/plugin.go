// SPDX-License-Identifier: Apache-2.0

// Package plugin is what weft-cni does. It makes the pod's devices and asks the
// agent for everything else; the pod's device gets no address and stays down until
// the agent says that the pod's policy is in the kernel.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/podnet"
)

// Timeouts bound the waits for the agent.
type Timeouts struct {
	Call     time.Duration // any RPC but Commit
	Commit   time.Duration // above the agent's own limit, so that its reason is heard
	Patience time.Duration // of ADD with an agent that is away or not ready: a restart takes 1 to 3 s
}

// DefaultTimeouts are those of the installed plugin.
func DefaultTimeouts() Timeouts {
	return Timeouts{Call: 10 * time.Second, Commit: 30 * time.Second, Patience: 5 * time.Second}
}

// Versions are the versions of the specification that are understood.
func Versions() version.PluginInfo { return version.VersionsStartingFrom("0.3.1") }

// Plugin answers the commands of the specification.
type Plugin struct {
	timeouts Timeouts
}

// New makes a Plugin.
func New(t Timeouts) *Plugin { return &Plugin{timeouts: t} }

// Del removes an attachment: the device first, then the agent's record, or a
// tombstone for it while the agent is away. Nothing that is gone is an error.
func (p *Plugin) Del(args *skel.CmdArgs) error {
	req, err := loadRequest(args)
	if err != nil {
		return err
	}
	if err := removeDevices(req); err != nil {
		return types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	return p.forget(req)
}

// removeDevices removes the pair by the host's end, which is named after the
// attachment, and by the pod's end in case another namespace holds the host's.
func removeDevices(req request) error {
	if err := podnet.RemoveHost(req.key.HostDevice()); err != nil {
		return err
	}
	if req.netns == "" {
		return nil
	}
	return podnet.RemovePod(req.netns, req.key.IfName, req.key.PodMAC())
}

// forget makes the agent release an attachment. Between its start and the first
// answer on its socket an agent looks for tombstones, so one that is written while
// nobody answers, and asked again after, cannot be overlooked.
func (p *Plugin) forget(req request) error {
	err := p.deleteRPC(req)
	if err == nil || !isAway(err) {
		return err
	}
	if err := attachment.WriteTombstone(req.conf.StateDir, req.key); err != nil {
		return types.NewError(types.ErrIOFailure, fmt.Sprintf("leaving a note for the weft agent, which is away: %v", err), "")
	}
	if err := p.deleteRPC(req); err != nil && !isAway(err) {
		return err
	}
	return nil
}

func (p *Plugin) deleteRPC(req request) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Call)
	defer cancel()
	a, err := dial(ctx, req.conf.Socket)
	if err != nil {
		return err
	}
	defer a.close()
	if _, err := a.api.Delete(ctx, &agentv1.DeleteRequest{Attachment: attachmentOf(req.key)}); err != nil {
		return a.explain(err)
	}
	return nil
}

// GC has the agent release what the runtime no longer knows.
func (p *Plugin) GC(args *skel.CmdArgs) error {
	conf, err := loadConfig(args.StdinData)
	if err != nil {
		return err
	}
	valid, err := conf.validAttachments()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Commit)
	defer cancel()
	a, err := dial(ctx, conf.Socket)
	if err != nil {
		return err
	}
	defer a.close()
	req := &agentv1.CollectGarbageRequest{Network: conf.Name}
	for _, k := range valid {
		req.Valid = append(req.Valid, attachmentOf(k))
	}
	if _, err := a.api.CollectGarbage(ctx, req); err != nil {
		return a.explain(err)
	}
	return nil
}

// Status tells whether an ADD could be served.
func (p *Plugin) Status(args *skel.CmdArgs) error {
	conf, err := loadConfig(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Call)
	defer cancel()
	a, err := dial(ctx, conf.Socket)
	if err != nil {
		return unavailable(err)
	}
	defer a.close()
	st, err := a.api.CNIStatus(ctx, &agentv1.CNIStatusRequest{})
	if err != nil {
		return unavailable(a.explain(err))
	}
	if !st.GetReady() {
		return types.NewError(types.ErrPluginNotAvailable, "the weft agent is not ready: "+st.GetMessage(), "")
	}
	return nil
}

// unavailable is the code that STATUS has for every reason.
func unavailable(err error) error {
	var e *types.Error
	if errors.As(err, &e) {
		return types.NewError(types.ErrPluginNotAvailable, e.Msg, e.Details)
	}
	return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
}
