// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// maxBatch is how many resources one response has at most, so that Envoy serves
// requests in between.
const maxBatch = 250

// state is what proxies have to have. It is never changed.
type state struct {
	revision  model.Revision
	rulesets  []model.Ruleset
	resources [model.ProxyBlocks]resources // by block of the proxy's ports
	faults    []xds.Fault
}

// resources by type and name.
type resources map[string]map[string]xds.Resource

func newState(rev model.Revision) *state {
	s := &state{revision: rev}
	for block := range s.resources {
		s.resources[block] = make(resources)
		for _, url := range order() {
			s.resources[block][url] = make(map[string]xds.Resource)
		}
	}
	return s
}

// session is what is known of one proxy that is connected: a machine without I/O
// that takes its requests and gives the responses. One response of a type is on its
// way at a time. If the proxy refuses one with several resources, each is sent
// again by itself, so that those that are good are in force and the bad one is known.
type session struct {
	proxy bootstrap.Proxy
	from  string // who speaks to the proxy
	types map[string]*typeState
	nonce uint64
	acked model.Revision // everything of it is acknowledged, or refused
}

type refusal struct{ version, text string }

type typeState struct {
	asked      bool // the proxy wants this type
	answered   bool
	wildcard   bool
	subscribed map[string]bool
	known      map[string]string  // name -> version that the proxy has
	refused    map[string]refusal // what it does not take
	suspects   map[string]bool    // to be sent alone
	inFlight   *batch
}

// batch is a response that the proxy has not answered; removed ones have no version.
type batch struct {
	nonce    string
	versions map[string]string
}

func newSession(p bootstrap.Proxy, from string) *session {
	s := &session{proxy: p, from: from, types: make(map[string]*typeState)}
	for _, t := range order() {
		s.types[t] = &typeState{subscribed: make(map[string]bool), known: make(map[string]string),
			refused: make(map[string]refusal), suspects: make(map[string]bool)}
	}
	return s
}

// order in which a proxy learns: what is referred to first.
func order() []string { return []string{xds.TypeCluster, xds.TypeListener, xds.TypeRoute} }

func sortedNames(of map[string]xds.Resource) []string { return slices.Sorted(maps.Keys(of)) }

// take notes what a proxy asks for, and what it says of the last response.
func (s *session) take(req *discoveryv3.DeltaDiscoveryRequest) {
	t := s.types[req.TypeUrl]
	if t == nil {
		return // a type that is never served
	}
	first := !t.asked
	t.asked = true
	if first {
		// Before what it subscribes to: it says of some of it what it has.
		maps.Copy(t.known, req.InitialResourceVersions)
		t.wildcard = req.TypeUrl != xds.TypeRoute && len(req.ResourceNamesSubscribe) == 0
	}
	for _, n := range req.ResourceNamesSubscribe {
		if n == "*" {
			t.wildcard = true
			continue
		}
		t.subscribed[n] = true
		if _, has := req.InitialResourceVersions[n]; !has {
			delete(t.known, n) // it may have had it, and has dropped it
			delete(t.refused, n)
		}
	}
	for _, n := range req.ResourceNamesUnsubscribe {
		delete(t.subscribed, n)
		delete(t.known, n)
		delete(t.refused, n)
	}
	if t.inFlight != nil && req.ResponseNonce == t.inFlight.nonce {
		t.settle(req.GetErrorDetail() != nil, req.GetErrorDetail().GetMessage())
	}
}

// settle ends the response that is on its way.
func (t *typeState) settle(nack bool, text string) {
	sent := t.inFlight
	t.inFlight = nil
	for name, version := range sent.versions {
		switch {
		case nack && len(sent.versions) > 1:
			t.suspects[name] = true
		case nack && version != "":
			t.refused[name] = refusal{version, text}
		case version == "":
			delete(t.known, name)
			delete(t.refused, name)
		case t.wildcard || t.subscribed[name]:
			t.known[name] = version
			delete(t.refused, name)
		}
	}
}

// wants tells whether a proxy has not what it should have; "" stands for absence.
func (t *typeState) wants(name, version string) bool {
	known, has := t.known[name]
	if r, refused := t.refused[name]; refused && r.version == version {
		return false
	}
	return known != version || version != "" && !has
}

// of is the part of a state that is for this proxy.
func (s *session) of(want *state) resources { return want.resources[s.proxy.Block] }

// responses are those that can be sent now.
func (s *session) responses(want *state) (out []*discoveryv3.DeltaDiscoveryResponse) {
	for _, url := range order() {
		t := s.types[url]
		if !t.asked || t.inFlight != nil {
			continue
		}
		names, more := t.differing(s.of(want)[url])
		if len(names) == 0 && (t.answered || !t.wildcard) {
			continue // only the first is sent when it is empty: Envoy waits for one
		}
		r := s.response(url, t, names, want)
		if url == xds.TypeListener {
			r.ControlPlane = &corev3.ControlPlane{Identifier: s.from}
			if more {
				r.ControlPlane.Identifier += moreFollows
			}
		}
		out = append(out, r)
	}
	return out
}

// moreFollows is in the name of who speaks as long as a proxy has not been told of all
// listeners.
const moreFollows = ", not done"

// differing are the names of the next response; there may be more after it.
func (t *typeState) differing(want map[string]xds.Resource) (names []string, more bool) {
	for name, r := range want {
		if (t.wildcard || t.subscribed[name]) && t.wants(name, r.Version) {
			names = append(names, name)
		}
	}
	for name := range t.known {
		if _, stays := want[name]; !stays {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for name := range t.suspects {
		if !slices.Contains(names, name) {
			delete(t.suspects, name)
		}
	}
	if i := slices.IndexFunc(names, func(n string) bool { return t.suspects[n] }); i >= 0 {
		return names[i : i+1], len(names) > 1
	}
	return names[:min(len(names), maxBatch)], len(names) > maxBatch
}

func (s *session) response(url string, t *typeState, names []string, want *state) *discoveryv3.DeltaDiscoveryResponse {
	s.nonce++
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: strconv.FormatUint(s.nonce, 10),
		SystemVersionInfo: strconv.FormatUint(uint64(want.revision), 10)}
	t.inFlight = &batch{nonce: r.Nonce, versions: make(map[string]string, len(names))}
	t.answered = true
	for _, name := range names {
		delete(t.suspects, name)
		resource, there := s.of(want)[url][name]
		t.inFlight.versions[name] = resource.Version
		if !there {
			r.RemovedResources = append(r.RemovedResources, name)
			continue
		}
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: resource.Version, Resource: resource.Body})
	}
	return r
}

// settled tells whether the proxy has, or has refused, all of a state. It asks for
// the routes of a listener only when it has taken that.
func (s *session) settled(want *state) bool {
	for url, resources := range s.of(want) {
		t := s.types[url]
		if t.inFlight != nil {
			return false
		}
		for name := range t.known {
			if _, stays := resources[name]; !stays {
				return false
			}
		}
		for name, r := range resources {
			if url == xds.TypeRoute && !t.subscribed[name] && (r.IfAsked || s.refused(xds.TypeListener, s.of(want)[xds.TypeListener][name])) {
				continue
			}
			if t.wants(name, r.Version) {
				return false
			}
		}
	}
	return true
}

func (s *session) refused(url string, r xds.Resource) bool {
	no, is := s.types[url].refused[r.Name]
	return is && no.version == r.Version
}
