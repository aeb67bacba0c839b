// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"slices"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

type filter = agentv1.FlowFilter

func TestFilterFields(t *testing.T) {
	f := enriched(t, dropped(), demoNames()) // demo/intruder -> demo/backend-v1:8080, dropped
	for name, c := range map[string]struct {
		filter *filter
		want   bool
	}{
		"pod":                        {&filter{Pod: []string{"demo/intruder"}}, true},
		"pod, other side":            {&filter{Pod: []string{"demo/backend-v1"}}, true},
		"pod is whole with its ns":   {&filter{Pod: []string{"demo/back"}}, false},
		"pod of a workload":          {&filter{Pod: []string{"demo/backend"}}, true},
		"pod of a workload, from":    {&filter{FromPod: []string{"demo/backend"}}, false},
		"pod of a workload, to":      {&filter{ToPod: []string{"demo/backend"}}, true},
		"pod of another workload":    {&filter{Pod: []string{"prod/backend", "demo/backend-v"}}, false},
		"pod, beginning of a name":   {&filter{Pod: []string{"back"}}, true},
		"pod, whole namespace":       {&filter{Pod: []string{"demo/"}}, true},
		"pod, other namespace":       {&filter{Pod: []string{"prod/"}}, false},
		"from":                       {&filter{FromPod: []string{"intruder"}}, true},
		"from is not to":             {&filter{FromPod: []string{"backend"}}, false},
		"to":                         {&filter{ToPod: []string{"backend"}}, true},
		"service":                    {&filter{Service: []string{"demo/web"}}, true},
		"service, beginning":         {&filter{Service: []string{"w"}}, true},
		"service, other":             {&filter{Service: []string{"demo/we", "prod/"}}, false},
		"namespace":                  {&filter{Namespace: []string{"demo"}}, true},
		"namespace, other":           {&filter{Namespace: []string{"dem"}}, false},
		"label":                      {&filter{Label: []string{"app=backend"}}, true},
		"label with source":          {&filter{Label: []string{"k8s:app=backend"}}, true},
		"label, other source":        {&filter{Label: []string{"cidr:app=backend"}}, false},
		"label set":                  {&filter{Label: []string{"app in (x, backend)"}}, true},
		"label set and exists":       {&filter{Label: []string{"app notin (intruder,backend),app"}}, false},
		"label, one side fulfils it": {&filter{Label: []string{"app!=backend"}}, true},
		"label absent":               {&filter{Label: []string{"!team"}}, true},
		"identity":                   {&filter{Identity: []uint32{300}}, true},
		"ip":                         {&filter{Ip: []string{"10.0.0.3"}}, true},
		"cidr":                       {&filter{Ip: []string{"10.0.0.0/30"}}, true},
		"cidr, other":                {&filter{Ip: []string{"10.1.0.0/16", "fd00::/8"}}, false},
		"port":                       {&filter{Port: []uint32{8080}}, true},
		"protocol":                   {&filter{Protocol: []string{"TCP"}}, true},
		"protocol, other":            {&filter{Protocol: []string{"udp", "47"}}, false},
		"verdict":                    {&filter{Verdict: []agentv1.Verdict{agentv1.Verdict_VERDICT_DROPPED}}, true},
		"type":                       {&filter{Type: []agentv1.FlowType{agentv1.FlowType_FLOW_TYPE_NEW}}, false},
		"all fields must match":      {&filter{Pod: []string{"intruder"}, Port: []uint32{80}}, false},
		"one value of a field":       {&filter{Pod: []string{"x", "intruder"}, Port: []uint32{80, 8080}}, true},
		"no field":                   {&filter{}, false},
	} {
		if got := matched(t, f, []*filter{c.filter}, nil); got != c.want {
			t.Errorf("include %s: got %v", name, got)
		}
		if got := matched(t, f, nil, []*filter{c.filter}); got == c.want {
			t.Errorf("exclude %s: got %v", name, got)
		}
	}
}

func matched(t *testing.T, f *model.Flow, include, exclude []*filter) bool {
	t.Helper()
	m, err := Compile(include, exclude)
	if err != nil {
		t.Fatal(err)
	}
	return m(f)
}

func TestFiltersJoin(t *testing.T) {
	f := enriched(t, dropped(), demoNames())
	yes, no := &filter{Port: []uint32{8080}}, &filter{Port: []uint32{80}}
	if !matched(t, f, nil, nil) || !matched(t, f, []*filter{no, yes}, nil) || matched(t, f, []*filter{no}, nil) {
		t.Error("include: any must match, and none asks for nothing")
	}
	if matched(t, f, []*filter{yes}, []*filter{no, yes}) {
		t.Error("exclude goes over include")
	}
}

func TestICMPHasNoPorts(t *testing.T) {
	f := &model.Flow{Protocol: model.ProtoICMP, Peers: [2]model.FlowPeer{{Port: 8080}, {Port: 8080}}}
	if matched(t, f, []*filter{{Port: []uint32{8080}}}, nil) {
		t.Error("an ICMP identifier was taken for a port")
	}
}

func TestBadFiltersAreNamed(t *testing.T) {
	for want, f := range map[string]*filter{
		`ip "10.0.0": want an address or a CIDR`:                        {Ip: []string{"10.0.0"}},
		`port 70000: want 1 to 65535`:                                   {Port: []uint32{70000}},
		`protocol "tpc": want tcp, udp, sctp, icmp, icmpv6 or a number`: {Protocol: []string{"tpc"}},
		`label selector "a in b": "a in b" is no label key`:             {Label: []string{"a in b"}},
		`label selector "a of (b)": operator "of": want in or notin`:    {Label: []string{"a of (b)"}},
	} {
		if _, err := Compile([]*filter{f}, nil); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFiltersOfRequests(t *testing.T) {
	request := func(method, path string, status uint32) *model.Flow {
		return &model.Flow{Type: model.FlowRequest, Request: &model.Request{Method: method, Path: path, Status: status}}
	}
	get, post := request("GET", "/api/v1/cars", 200), request("POST", "/api", 503)
	silent, tls := request("GET", "/", 0), request("", "", 0)
	connection := enriched(t, dropped(), demoNames())
	for name, c := range map[string]struct {
		filter *filter
		want   []*model.Flow
	}{
		"method":                     {&filter{HttpMethod: []string{"get"}}, []*model.Flow{get, silent}},
		"methods":                    {&filter{HttpMethod: []string{"PUT", "POST"}}, []*model.Flow{post}},
		"a path is a beginning":      {&filter{HttpPath: []string{"/api"}}, []*model.Flow{get, post}},
		"a path is not in between":   {&filter{HttpPath: []string{"/v1"}}, nil},
		"an expression":              {&filter{HttpPath: []string{"/api/v[0-9]+/.*s$"}}, []*model.Flow{get}},
		"an alternative in one":      {&filter{HttpPath: []string{"/x|/api/v1"}}, []*model.Flow{get}},
		"paths":                      {&filter{HttpPath: []string{"/$", "/api$"}}, []*model.Flow{post, silent}},
		"status":                     {&filter{HttpStatus: []string{"200"}}, []*model.Flow{get}},
		"beginnings of a status":     {&filter{HttpStatus: []string{"5+", "20+"}}, []*model.Flow{get, post}},
		"no answer":                  {&filter{HttpStatus: []string{"0"}}, []*model.Flow{silent}},
		"all fields must match":      {&filter{HttpMethod: []string{"GET"}, HttpStatus: []string{"5+"}}, nil},
		"with another kind of field": {&filter{HttpMethod: []string{"GET"}, Protocol: []string{"tcp"}}, nil},
	} {
		for _, f := range []*model.Flow{get, post, silent, tls, connection} {
			if got, want := matched(t, f, []*filter{c.filter}, nil), slices.Contains(c.want, f); got != want {
				t.Errorf("%s: %+v: got %v", name, f.Request, got)
			}
		}
	}
}

func TestFiltersOfRequestsRefuse(t *testing.T) {
	for _, f := range []*filter{
		{HttpPath: []string{"/a("}}, {HttpStatus: []string{"5xx"}}, {HttpStatus: []string{"+"}}, {HttpStatus: []string{"40"}},
		{HttpStatus: []string{"404+"}}, {HttpStatus: []string{""}}, {HttpStatus: []string{"004"}},
	} {
		if _, err := Compile([]*filter{f}, nil); err == nil {
			t.Errorf("%v was taken", f)
		}
	}
}
