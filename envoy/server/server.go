// SPDX-License-Identifier: Apache-2.0

// Package server gives proxies on the node the resources of the rulesets in force,
// by delta ADS. A resource is sent when its content changed and the proxy has not
// that already, so an agent that starts again sends nothing as long as nothing is
// new. What a proxy refuses keeps the state that it had, and becomes a fault of the
// ruleset that it is for.
package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// Server serves any number of proxies, such as two side by side while one replaces
// the other. Its methods may be called at the same time.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	options  xds.Options
	snapshot string
	name     string
	admit    func(bootstrap.Proxy) error
	log      *slog.Logger

	mu       sync.Mutex
	want     *state // nil before the first Update: nothing is said until then
	sessions map[*session]chan struct{}
	acked    model.Revision
	changed  chan struct{} // closed when something becomes acknowledged or a proxy comes or goes
}

// What a proxy is told of who speaks to it: the agent, or who stands in for it.
const (
	Agent   = "weft-agent"
	StandIn = "weft-envoy"
)

// New makes an agent's server, that has nothing to say yet. What is in force it keeps in
// the file snapshot.
func New(o xds.Options, snapshot string, log *slog.Logger) *Server {
	return &Server{options: o, snapshot: snapshot, name: Agent, admit: func(bootstrap.Proxy) error { return nil }, log: log,
		sessions: make(map[*session]chan struct{}), changed: make(chan struct{})}
}

// NewStandIn makes one that says what the snapshot has.
func NewStandIn(snapshot string, log *slog.Logger) (*Server, error) {
	s := New(xds.Options{}, snapshot, log)
	s.name = StandIn
	return s, s.restore()
}

// Admit has each proxy looked at before it is told anything; one with an error has to
// call again. It is called before Register.
func (s *Server) Admit(look func(bootstrap.Proxy) error) { s.admit = look }

// Register offers the service.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// Update sets what is to be in force: all of it. It does not wait.
func (s *Server) Update(in model.Rulesets) {
	next := s.translate(in)
	s.set(next)
	if err := s.save(next); err != nil {
		s.log.Error("an Envoy that starts while the agent is away would lack rulesets", "error", err)
	}
}

func (s *Server) translate(in model.Rulesets) *state {
	resources, faults := xds.Translate(in, s.options)
	next := newState(in.Revision)
	next.rulesets, next.faults = in.List, faults
	for block, of := range next.resources {
		if block > 0 {
			o := s.options
			o.Block = uint8(block)
			resources[xds.TypeListener] = xds.Listeners(in, faults, o)
		}
		for _, url := range order() {
			for _, r := range resources[url] {
				of[url][r.Name] = r
			}
		}
	}
	return next
}

func (s *Server) set(next *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = next
	for _, wake := range s.sessions {
		select {
		case wake <- struct{}{}:
		default: // it is about to look anyway
		}
	}
	s.settle()
}

// settle finds out what is acknowledged. The lock is held.
func (s *Server) settle() {
	if s.want == nil {
		return
	}
	acked := s.want.revision
	for session := range s.sessions {
		if session.settled(s.want) {
			session.acked = s.want.revision
		}
		acked = min(acked, session.acked)
	}
	if len(s.sessions) == 0 && len(s.want.rulesets) > 0 {
		acked = s.acked
	}
	s.acked = acked
	close(s.changed)
	s.changed = make(chan struct{})
}

// Acknowledged is the revision that every proxy has, but for what it refused. Where
// there is nothing to enforce, no proxy is needed.
func (s *Server) Acknowledged() model.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// Wanted is the revision that was given last; 0: none yet.
func (s *Server) Wanted() model.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return 0
	}
	return s.want.revision
}

// Asks tells whether any ruleset asks for something; before the first Update that is not
// known, and so.
func (s *Server) Asks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want == nil || slices.ContainsFunc(s.want.rulesets, func(r model.Ruleset) bool { return !r.Open })
}

// Connected is how many proxies are.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// WaitAcknowledged waits for a revision, or a later one, as long as there is a proxy
// to wait for.
func (s *Server) WaitAcknowledged(ctx context.Context, rev model.Revision) error {
	for {
		s.mu.Lock()
		acked, proxies, changed := s.acked, len(s.sessions), s.changed
		s.mu.Unlock()
		if acked >= rev || proxies == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
