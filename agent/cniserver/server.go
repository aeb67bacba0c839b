// SPDX-License-Identifier: Apache-2.0

// Package cniserver is the agent's half of the CNI plugin: it reserves an
// endpoint, answers when the endpoint's policy is in the kernel, and releases it.
// The record in the endpoint store is the truth; the endpoints' table follows it.
package cniserver

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weftmesh/weft/agent/endpointstore"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// Defaults of Config.
const (
	DefaultCommitTimeout = 20 * time.Second
	DefaultCheckTimeout  = 2 * time.Second
	DefaultSweepEvery    = 30 * time.Second
	DefaultMTU           = 1500
)

// podTimeout bounds the wait for a pod of which the runtime has heard before us.
const podTimeout = 5 * time.Second

// Workloads are the pods that this node is to run.
type Workloads interface {
	Pod(key model.PodKey) (model.Pod, bool)
	// AddOrphan adds an attached pod that its source may no longer declare. What
	// the source says of it, before or after, counts instead.
	AddOrphan(pod model.Pod) (model.Revision, error)
}

// Endpoints is the table of endpoints. Upsert and Delete are idempotent, and are
// called in the order of an attachment's life.
type Endpoints interface {
	Upsert(ep model.Endpoint) error
	Delete(id uint32) error
}

// Realizer knows what the kernel holds.
type Realizer interface {
	// WaitEndpoint answers when the endpoint, as it was last upserted in state
	// "ready", is in force: programs on its device, policy and row in the maps. Its
	// error names what is missing, also when it is ctx that ended the wait.
	WaitEndpoint(ctx context.Context, id uint32) (model.Revision, error)
}

// Devices are the host's network devices.
type Devices interface {
	endpointstore.Devices
	Strays
	// EnsureHostSide gives the device routes and neighbours that are missing.
	EnsureHostSide(ep model.Endpoint) error
}

// Strays are host-side devices that no record speaks of.
type Strays interface {
	// HostSide lists the names of all host-side devices.
	HostSide() ([]string, error)
	// Block sets a host-side device down; none is no error.
	Block(name string) error
}

// Config is what a Server is made of.
type Config struct {
	Store     *endpointstore.Store
	Workloads Workloads
	Endpoints Endpoints
	Realizer  Realizer
	Devices   Devices
	// Ready tells why an ADD cannot be served now; nil: it can always.
	Ready func() error
	// WatchPod finds a pod, and gives a channel that closes when it has come, changed
	// or gone: Prepare waits a while for a pod that is not there. nil: it does not.
	WatchPod func(model.PodKey) (model.Pod, bool, <-chan struct{})
	Log      *slog.Logger
	// MTU is that of new pods' devices; nil, or an answer of 0: DefaultMTU.
	MTU func() uint16
	// How long Commit waits for the kernel, Check for a row that should be there,
	// and how often tombstones are looked for; 0: the defaults.
	CommitTimeout, CheckTimeout, SweepEvery time.Duration
}

// Server implements agentv1.CNIServiceServer.
type Server struct {
	agentv1.UnimplementedCNIServiceServer
	cfg Config

	mu   sync.Mutex
	held map[attachment.Key]chan struct{} // closed when the attachment is let go
}

// New fills in defaults. Call Restore, then serve, then Run.
func New(cfg Config) *Server {
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = DefaultCommitTimeout
	}
	if cfg.CheckTimeout == 0 {
		cfg.CheckTimeout = DefaultCheckTimeout
	}
	if cfg.SweepEvery == 0 {
		cfg.SweepEvery = DefaultSweepEvery
	}
	return &Server{cfg: cfg, held: map[attachment.Key]chan struct{}{}}
}

// mtu is that of a new pod's device.
func (s *Server) mtu() uint16 {
	if s.cfg.MTU == nil {
		return DefaultMTU
	}
	return cmp.Or(s.cfg.MTU(), DefaultMTU)
}

// hold makes the caller the only one to work on an attachment until it calls the
// function that it gets.
func (s *Server) hold(ctx context.Context, key attachment.Key) (letGo func(), err error) {
	for {
		s.mu.Lock()
		busy, ok := s.held[key]
		if !ok {
			mine := make(chan struct{})
			s.held[key] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.held, key)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
