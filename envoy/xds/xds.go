// SPDX-License-Identifier: Apache-2.0

// Package xds says in Envoy's words what rulesets ask for. Its functions are pure:
// the same rulesets give the same bytes. The rules are in routes, so that they reach
// the next request of a connection that is open; a listener's shape depends only on
// the kinds of its rules.
package xds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/weftmesh/weft/pkg/model"
)

// Types of resources, in the order in which a proxy must learn of them.
const (
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Clusters of the bootstrap, which the resources refer to.
const (
	ADSCluster = "weft-xds" // the agent's configuration
	ALSCluster = "weft-als" // the agent's sink of access logs
)

// Options are what is the same for all rulesets.
type Options struct {
	Block uint8 // of ports, 0 or 1
	// NoIPv6 is for kernels without it, on which nothing can listen on ::1.
	NoIPv6 bool
	// LogEvery has one in so many of the requests that rules allow in the access log;
	// 0 and 1: each. All others are always in it. A record costs Envoy about a fifth
	// of what a small request does.
	LogEvery uint32
	// Backend is where requests go that pass, instead of where the client wanted
	// to; for a proxy that is reached directly, as tests do.
	Backend netip.AddrPort
}

// direct tells whether connections keep no addresses of their own.
func (o Options) direct() bool { return o.Backend.IsValid() }

// Resource is one of Envoy's, ready to be sent.
type Resource struct {
	Name    string
	Version string          // of the content
	Ruleset model.RulesetID // 0: of all
	Body    *anypb.Any
	// IfAsked: a proxy may have no use for it.
	IfAsked bool
}

// Resources are everything that a proxy has to have, by type, sorted by name.
type Resources map[string][]Resource

// Fault is what keeps a ruleset from being in force as it was written. A rule that
// cannot be said allows nothing then; what the proxy refuses stays as it was last.
type Fault struct {
	Ruleset model.RulesetID
	Policy  model.PolicyKey // empty: unknown which of the ruleset's
	Rule    string          // place in the policy; empty: the proxy refuses the ruleset
	Text    string
}

func (f Fault) Error() string {
	switch {
	case f.Policy == (model.PolicyKey{}):
		return fmt.Sprintf("ruleset %d: %s", f.Ruleset, f.Text)
	case f.Rule == "":
		return fmt.Sprintf("%s: %s", f.Policy, f.Text)
	default:
		return fmt.Sprintf("%s: %s: %s", f.Policy, f.Rule, f.Text)
	}
}

// RulesetName is the name of a ruleset's listener and of its routes.
func RulesetName(id model.RulesetID) string { return fmt.Sprintf("ruleset-%d", id) }

// Translate gives the resources for all rulesets. A rule with a fault is not in them;
// as rules add up, all others allow what they do without it.
func Translate(in model.Rulesets, o Options) (Resources, []Fault) {
	out := Resources{TypeCluster: {pack(nowhereName, 0, nowhere()), pack(upstreamName, 0, upstream(o))}}
	var faults []Fault
	for _, rs := range in.List {
		found := check(rs)
		if rs.Then != nil { // each of the two is in the list itself, with its faults
			then := sift(*rs.Then, check(*rs.Then))
			out[TypeRoute] = append(out[TypeRoute], pack(RulesetName(rs.ID), rs.ID, pairRoutes(sift(rs, found), then)))
			continue
		}
		faults = append(faults, found...)
		// Also where only names of TLS are asked for: connections of a listener that drains, as it
		// asked for requests before, must not go on by what was asked then.
		routes := pack(RulesetName(rs.ID), rs.ID, routeConfiguration(sift(rs, found)))
		routes.IfAsked = !wantsHTTP(rs)
		out[TypeRoute] = append(out[TypeRoute], routes)
	}
	out[TypeListener] = Listeners(in, faults, o)
	for _, list := range out {
		sortResources(list)
	}
	return out, faults
}

// Listeners are all that differs between the blocks of ports. The faults are those of
// Translate.
func Listeners(in model.Rulesets, faults []Fault, o Options) (out []Resource) {
	of := make(map[model.RulesetID][]Fault)
	for _, f := range faults {
		of[f.Ruleset] = append(of[f.Ruleset], f)
	}
	for _, rs := range in.List {
		out = append(out, pack(RulesetName(rs.ID), rs.ID, listener(sift(rs, of[rs.ID]), o)))
	}
	sortResources(out)
	return out
}

func sortResources(list []Resource) {
	slices.SortFunc(list, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// wantsHTTP tells whether requests are looked at. That is so without any rule, too:
// then nothing may pass, and whoever asks should be told.
func wantsHTTP(rs model.Ruleset) bool {
	return !wantsTLS(rs) || slices.ContainsFunc(rs.Rules, func(r model.RulesetRule) bool {
		return len(r.L7.HTTP) > 0 || len(r.L7.GRPC) > 0
	})
}

func wantsTLS(rs model.Ruleset) bool {
	return rs.Then == nil && slices.ContainsFunc(rs.Rules, func(r model.RulesetRule) bool { return len(r.L7.ServerNames) > 0 })
}

// pack makes bytes of a message, and its version of those.
func pack(name string, id model.RulesetID, m proto.Message) Resource {
	body := toAny(m)
	sum := sha256.Sum256(body.Value)
	return Resource{Name: name, Version: hex.EncodeToString(sum[:8]), Ruleset: id, Body: body}
}

// toAny encodes a message of our own making, which cannot fail but for a fault of
// the programmer.
func toAny(m proto.Message) *anypb.Any {
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("encoding %s: %v", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return a
}
