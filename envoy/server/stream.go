// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

type stream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// DeltaAggregatedResources serves one proxy until it goes. With its first request it
// says which one it is, or that it is leaving, and nothing else.
func (s *Server) DeltaAggregatedResources(conn stream) error {
	first, err := conn.Recv()
	if err != nil {
		return err
	}
	proxy, err := bootstrap.ReadProxy(first.GetNode())
	if err == nil {
		err = s.admit(proxy)
	}
	if err != nil {
		s.log.Warn("a proxy is not served", "block", proxy.Block, "pod", proxy.Pod, "error", err)
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if proxy.Leaving {
		return nil // that was all
	}
	me, wake := newSession(proxy, s.name), make(chan struct{}, 1)
	s.enter(me, wake)
	defer s.leave(me)
	s.heard(me, first)
	requests, failed := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan error, 1)
	go receive(conn, requests, failed) // until the stream ends, which is when this returns
	for {
		if err := s.send(conn, me); err != nil {
			return fmt.Errorf("sending to the proxy: %w", err)
		}
		select {
		case req := <-requests:
			s.heard(me, req)
		case <-wake:
		case err := <-failed:
			return err
		case <-conn.Context().Done():
			return conn.Context().Err()
		}
	}
}

func receive(conn stream, to chan<- *discoveryv3.DeltaDiscoveryRequest, failed chan<- error) {
	for {
		req, err := conn.Recv()
		if err != nil {
			failed <- err
			return
		}
		select {
		case to <- req:
		case <-conn.Context().Done():
			return
		}
	}
}

func (s *Server) enter(me *session, wake chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[me] = wake
	s.settle()
}

func (s *Server) leave(me *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, me)
	s.settle()
}

func (s *Server) heard(me *session, req *discoveryv3.DeltaDiscoveryRequest) {
	if e := req.GetErrorDetail(); e != nil {
		s.log.Warn("proxy refuses configuration", "type", req.TypeUrl, "nonce", req.ResponseNonce, "error", e.GetMessage())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	me.take(req)
	s.settle()
}

// send sends what is due. Sending is not done under the lock: it waits for a proxy
// that is slow.
func (s *Server) send(conn stream, me *session) error {
	s.mu.Lock()
	var due []*discoveryv3.DeltaDiscoveryResponse
	if s.want != nil {
		due = me.responses(s.want)
	}
	s.mu.Unlock()
	for _, r := range due {
		if err := conn.Send(r); err != nil {
			return err
		}
	}
	return nil
}
