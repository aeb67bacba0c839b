// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netns"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
)

// againAfter is the time between two attempts of an ADD.
const againAfter = 100 * time.Millisecond

// Add attaches a pod. Whatever fails, nothing of the attempt stays. An agent that is
// being restarted is waited for: a runtime that is told to come again takes its time.
func (p *Plugin) Add(args *skel.CmdArgs) error {
	req, err := loadRequest(args)
	if err != nil {
		return err
	}
	if req.conf.PrevResult != nil {
		return badConfig("weft has to be the first plugin of the list: it makes the pod's interface, and was given the result of another (prevResult)")
	}
	pod, uid, err := loadPod(args.Args)
	if err != nil {
		return err
	}
	if err := checkNetNS(req.netns); err != nil {
		return err
	}
	prepare := &agentv1.PrepareRequest{
		Attachment: attachmentOf(req.key), Netns: req.netns, Network: req.conf.Name,
		PodNamespace: pod.Namespace, PodName: pod.Name, PodUid: uid,
	}
	for until := time.Now().Add(p.timeouts.Patience); ; time.Sleep(againAfter) {
		err := p.attempt(req, prepare)
		if !mayPass(err) || time.Now().After(until) {
			return err
		}
	}
}

// attempt is an ADD whole, or nothing.
func (p *Plugin) attempt(req request, prepare *agentv1.PrepareRequest) error {
	result, undo, err := p.add(req, prepare)
	if err == nil {
		if err = types.PrintResult(result, req.conf.CNIVersion); err == nil {
			return nil
		}
	}
	return rollBack(err, undo)
}

// mayPass tells whether another attempt may do better: the agent was away, or not
// ready, and what was done is undone.
func mayPass(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && e.Code == types.ErrTryAgainLater && e.Details == ""
}

// rollBack undoes a failed ADD, last step first. The error is the ADD's own; what
// could not be undone is in its details.
func rollBack(err error, undo []func() error) error {
	var left []error
	for i := len(undo) - 1; i >= 0; i-- {
		left = append(left, undo[i]())
	}
	var e *types.Error
	if !errors.As(err, &e) {
		e = types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	if left := errors.Join(left...); left != nil {
		return types.NewError(e.Code, e.Msg, fmt.Sprintf("undoing it failed too: %v", left))
	}
	return e
}

// checkNetNS refuses a namespace that is not one, and the plugin's own, in which a
// pod would be the host. The library behind main asks the latter, too, but after
// ADD has done its work.
func checkNetNS(path string) error {
	if path == "" {
		return badEnv("CNI_NETNS is missing")
	}
	if err := ns.IsNSorErr(path); err != nil {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: %v", err), "")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("opening the plugin's own network namespace: %v", err), "")
	}
	defer own.Close()
	pod, err := netns.GetFromPath(path)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: opening %s: %v", path, err), "")
	}
	defer pod.Close()
	if own.Equal(pod) {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: %s is the host's own network namespace", path), "")
	}
	return nil
}

// add does the steps of ADD, and answers how to undo those that were done.
func (p *Plugin) add(req request, prepare *agentv1.PrepareRequest) (result *current.Result, undo []func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Call)
	defer cancel()
	a, err := dial(ctx, req.conf.Socket)
	if err != nil {
		return nil, nil, err
	}
	defer a.close()
	ep, err := a.api.Prepare(ctx, prepare)
	if err != nil {
		// An agent that died over it may have written the record.
		if err = a.explain(err); isAway(err) {
			undo = append(undo, func() error { return p.forget(req) })
		}
		return nil, undo, err
	}
	undo = append(undo, func() error { return p.forget(req) })
	spec, err := specOf(req, ep)
	if err != nil {
		return nil, undo, types.NewError(types.ErrInternal, fmt.Sprintf("the weft agent's answer cannot be used: %v", err), "")
	}
	index, err := podnet.Create(req.netns, spec)
	if err != nil {
		return nil, undo, err
	}
	undo = append(undo, func() error { return podnet.RemoveHost(spec.HostIfName) })
	if err := p.commit(a, req, index); err != nil {
		return nil, undo, err
	}
	if err := podnet.EnsureHost(spec); err != nil {
		return nil, undo, fmt.Errorf("on the host: %w", err)
	}
	if err := podnet.SetUpPod(req.netns, spec); err != nil {
		return nil, undo, err
	}
	return resultOf(req, spec, ep), undo, nil
}

// commit returns when the pod's policy is in the kernel.
func (p *Plugin) commit(a *agent, req request, index uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Commit)
	defer cancel()
	_, err := a.api.Commit(ctx, &agentv1.CommitRequest{Attachment: attachmentOf(req.key), HostIfindex: index})
	if err != nil {
		return a.explain(err)
	}
	return nil
}

// specOf reads the agent's answer.
func specOf(req request, ep *agentv1.PrepareResponse) (podnet.Spec, error) {
	s := podnet.Spec{IfName: req.key.IfName, HostIfName: ep.GetHostIfname(), MTU: int(ep.GetMtu())}
	for _, m := range []struct {
		text string
		to   *model.MAC
	}{{ep.GetMac(), &s.MAC}, {ep.GetHostMac(), &s.HostMAC}} {
		hw, err := net.ParseMAC(m.text)
		if err != nil {
			return s, err
		}
		if len(hw) != len(m.to) {
			return s, fmt.Errorf("%s is not an Ethernet address", hw)
		}
		copy(m.to[:], hw)
	}
	for _, a := range []struct {
		text string
		to   *netip.Addr
	}{{ep.GetIpv4(), &s.IPv4}, {ep.GetIpv6(), &s.IPv6}} {
		if a.text == "" {
			continue
		}
		ip, err := netip.ParseAddr(a.text)
		if err != nil {
			return s, err
		}
		*a.to = ip
	}
	if s.HostIfName != req.key.HostDevice() {
		return s, fmt.Errorf("it names the device %q, not %q: are agent and plugin of one version?", s.HostIfName, req.key.HostDevice())
	}
	return s, s.Validate()
}

// resultOf is what ADD prints.
func resultOf(req request, s podnet.Spec, ep *agentv1.PrepareResponse) *current.Result {
	r := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: s.HostIfName, Mac: net.HardwareAddr(s.HostMAC[:]).String(), Mtu: s.MTU},
			{Name: s.IfName, Mac: net.HardwareAddr(s.MAC[:]).String(), Mtu: s.MTU, Sandbox: req.netns},
		},
	}
	for _, a := range []struct {
		ip      netip.Addr
		gateway string
	}{{s.IPv4, ep.GetGateway4()}, {s.IPv6, ep.GetGateway6()}} {
		if !a.ip.IsValid() {
			continue
		}
		bits := a.ip.BitLen()
		gw := net.ParseIP(a.gateway)
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(1), Gateway: gw,
			Address: net.IPNet{IP: a.ip.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		})
		r.Routes = append(r.Routes, &types.Route{
			Dst: net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}, GW: gw,
		})
	}
	return r
}
