// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// Contents is what the kernel was told, as rows.
type Contents struct {
	Endpoints []model.EndpointRow
	Sets      map[model.SetHash]model.PolicySet
	IPs       []model.IPRow
	Services  model.ServiceRows
}

// Inspect reads pinned maps without loading or changing anything, so that it may
// look over the shoulder of a running agent of the same version.
func Inspect(bpffs string) (Contents, error) {
	d := &Datapath{pins: pins{root: bpffs}, sets: newSetTable()}
	opened := make(map[string]*ebpf.Map)
	defer func() {
		for _, m := range opened {
			m.Close()
		}
	}()
	for _, pin := range pinnedMaps() {
		if !pin.keep || pin.live {
			continue
		}
		m, err := ebpf.LoadPinnedMap(d.pins.mapPath(pin.name, pin.version), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return Contents{}, fmt.Errorf("opening map %s: %w", pin.name, err)
		}
		opened[pin.name] = m
	}
	d.maps = weftbpf.BpfMaps{
		WeftIf: opened["weft_if"], WeftIfHi: opened["weft_if_hi"], WeftEp: opened["weft_ep"],
		WeftIp4: opened["weft_ip4"], WeftIp6: opened["weft_ip6"], WeftPolsets: opened["weft_polsets"],
		WeftSvc4: opened["weft_svc4"], WeftSvc6: opened["weft_svc6"], WeftSvcSlot: opened["weft_svc_slot"],
		WeftBackend: opened["weft_backend"],
	}
	var c Contents
	var errs [4]error
	c.Sets, errs[0] = d.PolicySets()
	c.Endpoints, errs[1] = d.Endpoints()
	c.IPs, errs[2] = d.IPs()
	c.Services, errs[3] = d.readServices()
	return c, errors.Join(errs[:]...)
}
