// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/agent/endpointstore"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// Delete releases an attachment; one that is not known is no error.
func (s *Server) Delete(ctx context.Context, req *agentv1.DeleteRequest) (*agentv1.DeleteResponse, error) {
	key, err := keyOf(req.GetAttachment())
	if err != nil {
		return nil, err
	}
	letGo, err := s.hold(ctx, key)
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer letGo()
	if err := s.release(key); err != nil {
		return nil, status.Errorf(codes.Internal, "releasing %s: %v", key, err)
	}
	return &agentv1.DeleteResponse{}, nil
}

// release undoes an attachment, whatever is left of it: the device first, so that
// no packet comes from an address that is free; the record last but for the
// tombstone, so that a crash in between is taken up again at the next start.
func (s *Server) release(key attachment.Key) error {
	if err := s.cfg.Devices.Remove(key.HostDevice()); err != nil {
		return err
	}
	if r, ok := s.cfg.Store.Get(key); ok {
		if err := s.cfg.Endpoints.Delete(r.ID); err != nil {
			return fmt.Errorf("removing endpoint %d: %w", r.ID, err)
		}
		if err := s.cfg.Store.Release(key); err != nil {
			return err
		}
		s.cfg.Log.Info("endpoint released", "endpoint", r.ID, "pod", r.Pod.String(), "device", r.HostIfName)
	}
	return attachment.RemoveTombstone(s.cfg.Store.StateDir(), key)
}

// Check answers what an attachment should look like, after asking whether the
// kernel has its policy.
func (s *Server) Check(ctx context.Context, req *agentv1.CheckRequest) (*agentv1.CheckResponse, error) {
	key, err := keyOf(req.GetAttachment())
	if err != nil {
		return nil, err
	}
	r, ok := s.cfg.Store.Get(key)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "attachment %s is not known", key)
	}
	if r.State != model.EndpointReady {
		return nil, status.Errorf(codes.FailedPrecondition, "attachment %s of pod %s is not complete", key, r.Pod)
	}
	wait, cancel := context.WithTimeout(ctx, s.cfg.CheckTimeout)
	defer cancel()
	if _, err := s.cfg.Realizer.WaitEndpoint(wait, r.ID); err != nil {
		return nil, status.Errorf(codes.Aborted, "pod %s: its policy is not in the kernel: %v", r.Pod, err)
	}
	return &agentv1.CheckResponse{Endpoint: response(r)}, nil
}

// CollectGarbage releases the attachments of a network that the runtime no longer
// knows.
func (s *Server) CollectGarbage(ctx context.Context, req *agentv1.CollectGarbageRequest) (*agentv1.CollectGarbageResponse, error) {
	valid := map[attachment.Key]bool{}
	for _, a := range req.GetValid() {
		key, err := keyOf(a)
		if err != nil {
			return nil, err
		}
		valid[key] = true
	}
	out := &agentv1.CollectGarbageResponse{}
	var errs []error
	for _, r := range s.cfg.Store.List() {
		if r.Network != req.GetNetwork() || valid[r.Key()] {
			continue
		}
		if err := s.collect(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("releasing %s: %w", r.Key(), err))
			continue
		}
		out.Removed = append(out.Removed, &agentv1.Attachment{ContainerId: r.ContainerID, Ifname: r.IfName})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	return out, nil
}

// collect releases the attachment of r, unless another has taken its place.
func (s *Server) collect(ctx context.Context, r endpointstore.Record) error {
	letGo, err := s.hold(ctx, r.Key())
	if err != nil {
		return err
	}
	defer letGo()
	if now, ok := s.cfg.Store.Get(r.Key()); !ok || now.ID != r.ID {
		return nil
	}
	return s.release(r.Key())
}

// CNIStatus tells whether an ADD could be served.
func (s *Server) CNIStatus(context.Context, *agentv1.CNIStatusRequest) (*agentv1.CNIStatusResponse, error) {
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			return &agentv1.CNIStatusResponse{Message: err.Error()}, nil
		}
	}
	if err := s.cfg.Store.Room(); err != nil {
		return &agentv1.CNIStatusResponse{Message: err.Error()}, nil
	}
	return &agentv1.CNIStatusResponse{Ready: true}, nil
}

// Restore takes up the records that are on disk, completes what was deleted while
// the agent was away, and fills the endpoints' table, and that of pods with the
// pods as they were last, as orphans until the source declares them. It comes
// before the socket is served.
func (s *Server) Restore() error {
	found, err := s.cfg.Store.Restore(s.cfg.Devices)
	if err != nil {
		return fmt.Errorf("restoring endpoints: %w", err)
	}
	for _, r := range found.Released {
		s.cfg.Log.Info("endpoint released that went while the agent was away", "endpoint", r.ID, "pod", r.Pod.String(), "device", r.HostIfName)
	}
	known := map[string]bool{}
	for _, r := range s.cfg.Store.List() {
		known[r.HostIfName] = true
		if err := s.cfg.Endpoints.Upsert(r.Endpoint); err != nil {
			return fmt.Errorf("restoring endpoint %d: %w", r.ID, err)
		}
		if pod, ok := r.LastKnown(); ok {
			if _, err := s.cfg.Workloads.AddOrphan(pod); err != nil {
				return fmt.Errorf("restoring pod %s of endpoint %d: %w", r.Pod, r.ID, err)
			}
		}
		if r.State != model.EndpointReady {
			continue
		}
		if err := s.cfg.Devices.EnsureHostSide(r.Endpoint); err != nil {
			s.cfg.Log.Error("the host's side of an endpoint cannot be repaired", "endpoint", r.ID, "pod", r.Pod.String(), "error", err)
		}
	}
	s.cfg.Log.Info("endpoints restored", "kept", found.Kept, "released", len(found.Released), "unusable", len(found.Bad))
	return s.blockStrays(known)
}

// blockStrays sets devices down that no record speaks of, and names them: nothing
// can be said of their pods, so their programs will go, and without programs and
// up they would have a network without any policy. Removing them is for who can
// tell whose they are.
func (s *Server) blockStrays(known map[string]bool) error {
	names, err := s.cfg.Devices.HostSide()
	if err != nil {
		return fmt.Errorf("looking for stray devices: %w", err)
	}
	for _, name := range names {
		if known[name] {
			continue
		}
		if err := s.cfg.Devices.Block(name); err != nil {
			s.cfg.Log.Error("a device without an endpoint record cannot be set down, so its pod has a network without policy; delete the pod", "device", name, "error", err)
		} else {
			s.cfg.Log.Warn("a device has no endpoint record, so its pod has no network; delete the pod and make it again", "device", name)
		}
	}
	return nil
}

// Run completes tombstones until ctx ends: at once, for those that were written
// after Restore and before the socket was served, and then now and again, for
// those of a plugin that gave up on a slow answer.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Server) sweep(ctx context.Context) {
	keys, err := attachment.Tombstones(s.cfg.Store.StateDir())
	if err != nil {
		s.cfg.Log.Error("a tombstone cannot be used", "error", err)
	}
	for _, key := range keys {
		if err := s.bury(ctx, key); err != nil {
			s.cfg.Log.Error("a deletion cannot be completed", "attachment", key.String(), "error", err)
		}
	}
}

func (s *Server) bury(ctx context.Context, key attachment.Key) error {
	letGo, err := s.hold(ctx, key)
	if err != nil {
		return err
	}
	defer letGo()
	if !attachment.HasTombstone(s.cfg.Store.StateDir(), key) {
		return nil // completed since it was listed; what is there now is a new one
	}
	return s.release(key)
}
