// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/agent/endpointstore"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

// Prepare reserves an endpoint for a pod that this node knows.
func (s *Server) Prepare(ctx context.Context, req *agentv1.PrepareRequest) (*agentv1.PrepareResponse, error) {
	key, err := keyOf(req.GetAttachment())
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(req.GetNetns()) {
		return nil, status.Errorf(codes.InvalidArgument, "the network namespace %q is not an absolute path", req.GetNetns())
	}
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	letGo, err := s.hold(ctx, key)
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer letGo()
	pod, err := s.awaitWorkload(ctx, req)
	if err != nil {
		return nil, err
	}
	if attachment.HasTombstone(s.cfg.Store.StateDir(), key) {
		if err := s.release(key); err != nil {
			return nil, status.Errorf(codes.Internal, "completing the deletion of %s: %v", key, err)
		}
	}
	r, err := s.cfg.Store.Reserve(endpointstore.Record{Network: req.GetNetwork(), Workload: endpointstore.WorkloadOf(pod), Endpoint: model.Endpoint{
		Pod: pod.PodKey, PodUID: pod.UID, ContainerID: key.ContainerID, IfName: key.IfName,
		NetNS: req.GetNetns(), MTU: s.mtu(),
	}})
	switch {
	case errors.Is(err, endpointstore.ErrExists):
		return nil, status.Errorf(codes.AlreadyExists, "container %s has an interface %s already; a DEL must come before another ADD", key.ContainerID, key.IfName)
	case errors.Is(err, ipam.ErrExhausted):
		return nil, status.Errorf(codes.ResourceExhausted, "pod %s: %v", pod.PodKey, err)
	case err != nil:
		return nil, status.Errorf(codes.Internal, "reserving an endpoint for pod %s: %v", pod.PodKey, err)
	}
	if err := s.cfg.Endpoints.Upsert(r.Endpoint); err != nil {
		return nil, status.Errorf(codes.Internal, "adding endpoint %d of pod %s: %v", r.ID, pod.PodKey, errors.Join(err, s.release(key)))
	}
	return response(r), nil
}

// awaitWorkload is workload, with some patience: the runtime and this agent are told
// of a pod by two watches.
func (s *Server) awaitWorkload(ctx context.Context, req *agentv1.PrepareRequest) (model.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	for {
		var changed <-chan struct{}
		if s.cfg.WatchPod != nil {
			_, _, changed = s.cfg.WatchPod(model.PodKey{Namespace: req.GetPodNamespace(), Name: req.GetPodName()})
		}
		pod, err := s.workload(req)
		if changed == nil || status.Code(err) != codes.NotFound {
			return pod, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return pod, err
		}
	}
}

// workload finds the pod of a request and refuses one that must not be attached.
func (s *Server) workload(req *agentv1.PrepareRequest) (model.Pod, error) {
	key := model.PodKey{Namespace: req.GetPodNamespace(), Name: req.GetPodName()}
	if key.Namespace == "" || key.Name == "" {
		return model.Pod{}, status.Error(codes.InvalidArgument, "the request names no pod")
	}
	pod, ok := s.cfg.Workloads.Pod(key)
	switch {
	case !ok || pod.Orphan:
		return pod, status.Errorf(codes.NotFound, "pod %s is not known to this node: no manifest or API object of that name has been read", key)
	case pod.HostNetwork:
		return pod, status.Errorf(codes.PermissionDenied, "pod %s uses the host's network and is not attached", key)
	case pod.UID != "" && req.GetPodUid() != "" && pod.UID != req.GetPodUid():
		return pod, status.Errorf(codes.NotFound, "pod %s is not known to this node with UID %s, but with %s", key, req.GetPodUid(), pod.UID)
	}
	if pod.UID == "" {
		pod.UID = req.GetPodUid()
	}
	return pod, nil
}

// Commit hands the endpoint to the kernel, and answers when its policy is in
// force. If that fails the endpoint is gone, device and all.
func (s *Server) Commit(ctx context.Context, req *agentv1.CommitRequest) (*agentv1.CommitResponse, error) {
	key, err := keyOf(req.GetAttachment())
	if err != nil {
		return nil, err
	}
	letGo, err := s.hold(ctx, key)
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer letGo()
	r, ok := s.cfg.Store.Get(key)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "attachment %s is not known, or was deleted in between", key)
	}
	if r.State != model.EndpointPrepared {
		return nil, status.Errorf(codes.AlreadyExists, "attachment %s is in use already", key)
	}
	rev, err := s.commit(ctx, r, req.GetHostIfindex())
	if err != nil {
		if cleanup := s.release(key); cleanup != nil {
			s.cfg.Log.Error("an endpoint that failed cannot be released", "endpoint", r.ID, "pod", r.Pod.String(), "error", cleanup)
		}
		return nil, status.Errorf(codes.Aborted, "pod %s: %v", r.Pod, err)
	}
	s.cfg.Log.Info("endpoint attached", "endpoint", r.ID, "pod", r.Pod.String(), "device", r.HostIfName, "revision", uint64(rev))
	return &agentv1.CommitResponse{Revision: uint64(rev)}, nil
}

func (s *Server) commit(ctx context.Context, r endpointstore.Record, ifindex uint32) (model.Revision, error) {
	found, err := s.cfg.Devices.Find(r.HostIfName)
	if err != nil {
		return 0, err
	}
	if found == 0 || found != ifindex {
		return 0, fmt.Errorf("device %s has index %d here, not %d: does the plugin run in another network namespace than the agent?", r.HostIfName, found, ifindex)
	}
	ready, err := s.cfg.Store.SetReady(r.Key(), ifindex)
	if err != nil {
		return 0, err
	}
	if err := s.cfg.Endpoints.Upsert(ready.Endpoint); err != nil {
		return 0, fmt.Errorf("updating endpoint %d: %w", r.ID, err)
	}
	wait, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	rev, err := s.cfg.Realizer.WaitEndpoint(wait, r.ID)
	if err != nil {
		return 0, fmt.Errorf("its policy did not get into the kernel within %s: %w", s.cfg.CommitTimeout, err)
	}
	return rev, nil
}

// keyOf validates the attachment of a request.
func keyOf(a *agentv1.Attachment) (attachment.Key, error) {
	key := attachment.Key{ContainerID: a.GetContainerId(), IfName: a.GetIfname()}
	if err := key.Validate(); err != nil {
		return key, status.Errorf(codes.InvalidArgument, "%v", err)
	}
	return key, nil
}

func response(r endpointstore.Record) *agentv1.PrepareResponse {
	out := &agentv1.PrepareResponse{
		Endpoint: r.ID, HostIfname: r.HostIfName, Mtu: uint32(r.MTU),
		Mac: net.HardwareAddr(r.MAC[:]).String(), HostMac: net.HardwareAddr(r.HostMAC[:]).String(),
	}
	if r.IPv4.IsValid() {
		out.Ipv4, out.Gateway4 = r.IPv4.String(), attachment.Gateway4
	}
	if r.IPv6.IsValid() {
		out.Ipv6, out.Gateway6 = r.IPv6.String(), attachment.Gateway6
	}
	return out
}
