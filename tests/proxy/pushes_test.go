// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// pushes counts what is sent to proxies, by resource.
type pushes struct {
	mu    sync.Mutex
	names []string
}

func (p *pushes) intercept(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, watched{s, p})
}

func (p *pushes) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.names
	p.names = nil
	return out
}

type watched struct {
	grpc.ServerStream
	to *pushes
}

func (w watched) SendMsg(m any) error {
	if r, is := m.(*discoveryv3.DeltaDiscoveryResponse); is {
		w.to.mu.Lock()
		for _, res := range r.Resources {
			w.to.names = append(w.to.names, res.Name)
		}
		w.to.names = append(w.to.names, r.RemovedResources...)
		w.to.mu.Unlock()
	}
	return w.ServerStream.SendMsg(m)
}
