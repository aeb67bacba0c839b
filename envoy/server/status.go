// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// Standing is how a resource stands with the proxies.
type Standing string

// Standings.
const (
	InForce Standing = "in force" // every proxy has it
	Pending Standing = "pending"  // not every proxy has it yet, or there is none
	Refused Standing = "refused"  // a proxy does not take it
)

// ResourceStatus is how one resource stands.
type ResourceStatus struct {
	Type     string // as in listener, route, cluster
	Name     string
	Ruleset  model.RulesetID // 0: of all
	Version  string
	Standing Standing
	Text     string // why it is refused
}

// Status is how all resources stand, in the order of types and names.
func (s *Server) Status() (out []ResourceStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return nil
	}
	for url, short := range map[string]string{xds.TypeCluster: "cluster", xds.TypeListener: "listener", xds.TypeRoute: "route"} {
		for _, r := range s.want.resources[0][url] { // of the blocks only the ports differ
			if !s.useful(url, r) {
				continue
			}
			st := ResourceStatus{Type: short, Name: r.Name, Ruleset: r.Ruleset, Version: r.Version}
			st.Standing, st.Text = s.standing(url, r.Name)
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(a, b ResourceStatus) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Ruleset, b.Ruleset), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// useful tells whether a proxy is to have a resource, or asks for it.
func (s *Server) useful(url string, r xds.Resource) bool {
	for session := range s.sessions {
		if session.types[url].subscribed[r.Name] {
			return true
		}
	}
	return !r.IfAsked
}

func (s *Server) standing(url, name string) (Standing, string) {
	standing, text := InForce, ""
	if len(s.sessions) == 0 {
		return Pending, ""
	}
	for session := range s.sessions {
		t, version := session.types[url], session.of(s.want)[url][name].Version
		if no, refused := t.refused[name]; refused && no.version == version {
			return Refused, no.text
		}
		if t.known[name] != version {
			standing = Pending
		}
	}
	return standing, text
}

// Session is how one proxy that is connected stands.
type Session struct {
	bootstrap.Proxy
	Acknowledged model.Revision
}

// Sessions are the proxies that are connected, the one that was started last first.
func (s *Server) Sessions() (out []Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		out = append(out, Session{session.proxy, session.acked})
	}
	slices.SortFunc(out, func(a, b Session) int {
		return cmp.Or(cmp.Compare(b.Started, a.Started), cmp.Compare(a.Block, b.Block), cmp.Compare(a.Acknowledged, b.Acknowledged))
	})
	return out
}

// FaultList are what keeps rulesets from being in force as they are written: what
// could not be said, and what a proxy refuses, which is put to every policy of the
// ruleset.
func (s *Server) FaultList() []xds.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return nil
	}
	out := slices.Clone(s.want.faults)
	for _, rs := range s.want.rulesets {
		for _, url := range []string{xds.TypeListener, xds.TypeRoute} {
			name := xds.RulesetName(rs.ID)
			if r, there := s.want.resources[0][url][name]; !there || !s.useful(url, r) {
				continue
			}
			if standing, text := s.standing(url, name); standing == Refused {
				out = append(out, blame(rs, fmt.Sprintf("the proxy refuses it: %s", text))...)
			}
		}
	}
	return out
}

// blame gives a fault to each policy of a ruleset, or one to none.
func blame(rs model.Ruleset, text string) (out []xds.Fault) {
	for _, r := range rs.AllRules() {
		if !slices.ContainsFunc(out, func(f xds.Fault) bool { return f.Policy == r.Policy }) {
			out = append(out, xds.Fault{Ruleset: rs.ID, Policy: r.Policy, Text: text})
		}
	}
	if len(out) == 0 {
		out = []xds.Fault{{Ruleset: rs.ID, Text: text}}
	}
	return out
}
