// SPDX-License-Identifier: Apache-2.0

package endpointstore

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// Workload is what a pod's identity and its policies need to know of it. It is
// kept for the pod that is still attached when its source no longer declares it.
type Workload struct {
	Labels         map[string]string
	ServiceAccount string
	Ports          []model.NamedPort
	HostPorts      []model.HostPort
	Owner          model.Workload
}

// WorkloadOf takes from a pod what is kept of it.
func WorkloadOf(p model.Pod) *Workload {
	return &Workload{Labels: p.Labels, ServiceAccount: p.ServiceAccount, Ports: p.Ports, HostPorts: p.HostPorts, Owner: p.Workload}
}

// LastKnown is the record's pod as it was declared last; false if the record is
// too old to tell.
func (r Record) LastKnown() (model.Pod, bool) {
	if r.Workload == nil {
		return model.Pod{}, false
	}
	return model.Pod{
		PodKey: r.Pod, UID: r.PodUID, Labels: r.Workload.Labels,
		ServiceAccount: r.Workload.ServiceAccount, Ports: r.Workload.Ports, HostPorts: r.Workload.HostPorts, Workload: r.Workload.Owner,
	}, true
}

func (w *Workload) equal(v *Workload) bool {
	return w != nil && w.ServiceAccount == v.ServiceAccount && w.Owner == v.Owner &&
		maps.Equal(w.Labels, v.Labels) && slices.Equal(w.Ports, v.Ports) && slices.Equal(w.HostPorts, v.HostPorts)
}

// Follow brings the records up to date with their pods, and writes those that
// differ. The record of a pod that is not found stays as it is.
func (s *Store) Follow(find func(model.PodKey) (model.Pod, bool)) error {
	var errs []error
	for _, r := range s.List() {
		if pod, ok := find(r.Pod); ok {
			errs = append(errs, s.setWorkload(r.Key(), pod))
		}
	}
	return errors.Join(errs...)
}

// setWorkload is for one record at a time, so that an ADD waits for one write at
// most.
func (s *Store) setWorkload(key attachment.Key, pod model.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[key]
	now := WorkloadOf(pod)
	if !ok || r.Pod != pod.PodKey || r.Workload.equal(now) {
		return nil
	}
	r.Workload = now
	if err := s.write(r); err != nil {
		return err
	}
	s.records[key] = r
	return nil
}

// workload is a Workload as it is written.
type workload struct {
	Labels         map[string]string `json:"labels,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Ports          []port            `json:"ports,omitempty"`
	HostPorts      []hostPort        `json:"hostPorts,omitempty"`
	OwnerKind      string            `json:"ownerKind,omitempty"`
	OwnerName      string            `json:"ownerName,omitempty"`
}

type port struct {
	Name     string `json:"name"`
	Protocol uint8  `json:"protocol"`
	Port     uint16 `json:"port"`
}

type hostPort struct {
	Addr     netip.Addr `json:"address,omitzero"`
	Protocol uint8      `json:"protocol"`
	Port     uint16     `json:"port"`
	PodPort  uint16     `json:"podPort"`
}

func (w *Workload) written() *workload {
	if w == nil {
		return nil
	}
	out := &workload{Labels: w.Labels, ServiceAccount: w.ServiceAccount, OwnerKind: w.Owner.Kind, OwnerName: w.Owner.Name}
	for _, p := range w.Ports {
		out.Ports = append(out.Ports, port(p))
	}
	for _, p := range w.HostPorts {
		out.HostPorts = append(out.HostPorts, hostPort(p))
	}
	return out
}

func (w *workload) read() *Workload {
	if w == nil {
		return nil
	}
	out := &Workload{Labels: w.Labels, ServiceAccount: w.ServiceAccount, Owner: model.Workload{Kind: w.OwnerKind, Name: w.OwnerName}}
	for _, p := range w.Ports {
		out.Ports = append(out.Ports, model.NamedPort(p))
	}
	for _, p := range w.HostPorts {
		out.HostPorts = append(out.HostPorts, model.HostPort(p))
	}
	return out
}
