// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/podnet"
)

// Check compares the pod's network with what ADD made: with the result it
// returned, the agent's record, and the kernel. What plugins further down the list
// added is theirs.
func (p *Plugin) Check(args *skel.CmdArgs) error {
	req, err := loadRequest(args)
	if err != nil {
		return err
	}
	prev, err := req.conf.prevResult()
	if err != nil {
		return err
	}
	if prev == nil {
		return badConfig("prevResult is missing, without which there is nothing to compare with")
	}
	if err := checkNetNS(req.netns); err != nil {
		return err
	}
	spec, err := p.recorded(req)
	if err != nil {
		return err
	}
	if err := errors.Join(comparePrev(prev, req, spec), podnet.Check(req.netns, spec)); err != nil {
		return types.NewError(codeRefused, fmt.Sprintf("the network of container %s is not as it was made: %v", req.key, err), "")
	}
	return nil
}

// recorded asks the agent for its record of the attachment.
func (p *Plugin) recorded(req request) (podnet.Spec, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Call)
	defer cancel()
	a, err := dial(ctx, req.conf.Socket)
	if err != nil {
		return podnet.Spec{}, err
	}
	defer a.close()
	resp, err := a.api.Check(ctx, &agentv1.CheckRequest{Attachment: attachmentOf(req.key)})
	if err != nil {
		return podnet.Spec{}, a.explain(err)
	}
	spec, err := specOf(req, resp.GetEndpoint())
	if err != nil {
		return spec, types.NewError(types.ErrInternal, fmt.Sprintf("the weft agent's answer cannot be used: %v", err), "")
	}
	return spec, nil
}

// comparePrev looks for what is ours in the chain's result.
func comparePrev(prev *current.Result, req request, s podnet.Spec) error {
	var errs []error
	if err := hasInterface(prev, s.HostIfName, net.HardwareAddr(s.HostMAC[:]), ""); err != nil {
		errs = append(errs, err)
	}
	if err := hasInterface(prev, s.IfName, net.HardwareAddr(s.MAC[:]), req.netns); err != nil {
		errs = append(errs, err)
	}
	for _, ip := range []netip.Addr{s.IPv4, s.IPv6} {
		if ip.IsValid() && !hasIP(prev, ip) {
			errs = append(errs, fmt.Errorf("prevResult lacks the address %s", ip))
		}
	}
	return errors.Join(errs...)
}

func hasInterface(prev *current.Result, name string, mac net.HardwareAddr, sandbox string) error {
	for _, i := range prev.Interfaces {
		if i == nil || i.Name != name || i.Sandbox != sandbox {
			continue
		}
		if i.Mac != "" && i.Mac != mac.String() {
			return fmt.Errorf("prevResult has %s with MAC %s, not %s", name, i.Mac, mac)
		}
		return nil
	}
	return fmt.Errorf("prevResult lacks the interface %s", name)
}

func hasIP(prev *current.Result, want netip.Addr) bool {
	for _, ip := range prev.IPs {
		if ip == nil {
			continue
		}
		if have, ok := netip.AddrFromSlice(ip.Address.IP); ok && have.Unmap() == want {
			return true
		}
	}
	return false
}
