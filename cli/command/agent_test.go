// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/pkg/flow"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func now() time.Time { return time.Date(2026, 11, 22, 12, 3, 14, 0, time.UTC) }

// agent is a service with set answers, on a real socket.
type agent struct {
	agentv1.UnimplementedAgentServiceServer
	status  *agentv1.GetStatusResponse
	flows   []*agentv1.Flow
	waits   chan struct{} // GetStatus with wait_realized answers once it is closed
	asked   func()        // called when it begins to wait
	mu      sync.Mutex
	observe *agentv1.ObserveFlowsRequest // the last one
}

func (a *agent) GetStatus(ctx context.Context, req *agentv1.GetStatusRequest) (*agentv1.GetStatusResponse, error) {
	if req.GetWaitRealized() {
		if a.asked != nil {
			a.asked()
		}
		select {
		case <-a.waits:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return a.status, nil
}

func (a *agent) ListEndpoints(context.Context, *agentv1.ListEndpointsRequest) (*agentv1.ListEndpointsResponse, error) {
	return &agentv1.ListEndpointsResponse{Endpoints: []*agentv1.Endpoint{
		{Id: 13, Namespace: "demo", Pod: "intruder", Identity: 300, Ipv4: "10.0.0.3", Ipv6: "fd00::3",
			Device: "wf0123456789", State: "ready", PolicyRevision: 12},
		{Id: 14, Namespace: "demo", Pod: "backend-v1", Identity: 257, Ipv4: "10.0.0.4",
			Device: "wfabcdef0123", State: "ready", IsolatedIngress: true, PolicyRevision: 12, PolicyEntries: 3},
	}}, nil
}

func (a *agent) ListIdentities(context.Context, *agentv1.ListIdentitiesRequest) (*agentv1.ListIdentitiesResponse, error) {
	return &agentv1.ListIdentitiesResponse{Identities: []*agentv1.Identity{
		{Id: 1, Labels: []string{"reserved:host"}, Kind: "reserved"},
		{Id: 257, Labels: []string{"k8s:app=backend", "k8s:io.kubernetes.pod.namespace=demo"}, Endpoints: 2, Kind: "cluster"},
	}}, nil
}

func (a *agent) ListPolicies(_ context.Context, req *agentv1.ListPoliciesRequest) (*agentv1.ListPoliciesResponse, error) {
	out := &agentv1.ListPoliciesResponse{Policies: []*agentv1.Policy{
		{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "backend", Source: "demo/policy.yaml", Rules: 1, Endpoints: []uint32{14, 15}, Revision: 9},
		{Kind: "WeftClusterNetworkPolicy", Name: "base", Source: "base.yaml", Message: "line 7:\nspec.ingress[0].toPorts: not supported"},
	}}
	if req.GetEntries() {
		out.Endpoints = []*agentv1.EndpointPolicy{{Endpoint: 14, Entries: []*agentv1.PolicyEntry{
			{Direction: "ingress", Peer: 257, Protocol: "tcp", Port: "8080", Action: "allow", Rule: "WeftNetworkPolicy demo/backend ingress[0]"},
			{Direction: "ingress", Peer: 1, Protocol: "0", Port: "*", Action: "allow", Rule: "Weft allow-from-host ingress[0]"},
			{Direction: "ingress", Peer: 257, Protocol: "tcp", Port: "80", Action: "allow", Rule: "WeftNetworkPolicy demo/web ingress[0].toPorts[0]", Ruleset: 7},
			{Direction: "ingress", Protocol: "icmp", Port: "type 8", Action: "allow", Rule: "WeftNetworkPolicy demo/backend ingress[1]"},
		}}, {Endpoint: 15}}
	}
	return out, nil
}

func (a *agent) ListServices(_ context.Context, req *agentv1.ListServicesRequest) (*agentv1.ListServicesResponse, error) {
	services := []*agentv1.Service{
		{Namespace: "demo", Name: "backend", Type: "ClusterIP", Source: "service.yaml", Affinity: durationpb.New(3 * time.Hour),
			Frontends: []*agentv1.Frontend{
				{Address: "10.96.0.10:80", Protocol: "tcp", PortName: "http", Number: 4711, Algorithm: "maglev", Backends: []*agentv1.ServiceBackend{
					{Number: 1, Address: "10.0.0.4:8080", State: "ready", Pod: "demo/backend-v1", Node: "node-1", Hits: 12},
					{Number: 2, Address: "10.0.0.5:8080", State: "terminating", Hits: 3}}},
				{Address: "[fd00::10]:80", Protocol: "tcp", PortName: "http", Number: 4712, Algorithm: "maglev",
					Message: "its EndpointSlices have no IPv6 endpoint for this port"},
			}},
		{Namespace: "demo", Name: "headless", Type: "ClusterIP", Message: "it has no cluster address (headless, or none given yet)"},
	}
	switch req.GetName() {
	case "":
		return &agentv1.ListServicesResponse{Services: services}, nil
	case "backend":
		return &agentv1.ListServicesResponse{Services: services[:1]}, nil
	}
	return nil, status.Errorf(codes.NotFound, "no service %s/%s is known here", req.GetNamespace(), req.GetName())
}

// ObserveFlows filters with the agent's own code, so that a test covers both ends
// of a filter.
func (a *agent) ObserveFlows(req *agentv1.ObserveFlowsRequest, stream grpc.ServerStreamingServer[agentv1.ObserveFlowsResponse]) error {
	a.mu.Lock()
	a.observe = req
	a.mu.Unlock()
	store := flow.NewStore(64)
	for _, f := range a.flows {
		store.Add(toModel(f), 0)
	}
	return (&flow.Observer{Store: store}).ObserveFlows(req, stream)
}

// request is what the last observe asked for.
func (a *agent) request() *agentv1.ObserveFlowsRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.observe
}

func serve(t *testing.T, a agentv1.AgentServiceServer) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	serveAt(t, socket, a)
	return socket
}

// serveAt serves until stop, which also removes the socket, or the test's end.
func serveAt(t *testing.T, socket string, a agentv1.AgentServiceServer) (stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentv1.RegisterAgentServiceServer(server, a)
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	return server.Stop
}

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, socket string, args ...string) result {
	t.Helper()
	return runIn(t, t.Context(), Env{}, socket, args...)
}

// runIn fills the rest of an environment in.
func runIn(t *testing.T, ctx context.Context, env Env, socket string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if env.Stdout == nil {
		env.Stdout = &stdout
	}
	if env.Stdin == nil {
		env.Stdin = strings.NewReader("")
	}
	if env.Getenv == nil {
		env.Getenv = func(string) string { return "" }
	}
	if env.Stderr == nil {
		env.Stderr = &stderr
	}
	env.Now, env.Location, env.Version = now, time.UTC, "1.2.3"
	if socket != "" {
		args = append([]string{"--socket", socket}, args...)
	}
	code := Run(ctx, env, args)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// golden compares with a file of testdata, or with WEFT_UPDATE set writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("WEFT_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run the test with WEFT_UPDATE=1 if the change is meant); got:\n%s", file, got)
	}
}

func wellStatus() *agentv1.GetStatusResponse {
	return &agentv1.GetStatusResponse{
		Version: "1.2.3", Node: "host-1", Source: "manifest", Started: timestamppb.New(now().Add(-192 * time.Second)),
		Health: agentv1.Health_HEALTH_DEGRADED,
		Components: []*agentv1.ComponentStatus{
			{Name: "datapath", Health: agentv1.Health_HEALTH_OK},
			{Name: "manifests", Health: agentv1.Health_HEALTH_DEGRADED, Message: "policy.yaml:7: spec.ingres: unknown field; the last good state stays"},
		},
		DesiredRevision: 13, RealizedRevision: 12, Endpoints: 5, Identities: 7, Policies: 2, Services: 3,
		Flows:    &agentv1.FlowCounters{Seen: 1234, Lost: 1, Stored: 1000, Tracked: 40},
		PodCidrs: []string{"10.0.0.0/24", "fd00::/64"},
		Drops: []*agentv1.DropCounter{
			{Reason: "POLICY_DEFAULT", Direction: "ingress", Packets: 17, Bytes: 1020},
			{Reason: "SPOOFED_IPV4", Direction: "egress", Packets: 3, Bytes: 4200000},
			{Reason: "MULTICAST", Direction: "egress"},
		},
	}
}

// rules are references to one policy's rules.
func rules(action string, refs ...string) []*agentv1.RuleRef {
	var out []*agentv1.RuleRef
	for _, r := range refs {
		out = append(out, &agentv1.RuleRef{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "backend", Rule: r, Action: action})
	}
	return out
}

// story is one flow of each kind.
func story() []*agentv1.Flow {
	at := func(ms int) *timestamppb.Timestamp {
		return timestamppb.New(now().Add(time.Duration(ms-10000) * time.Millisecond))
	}
	client := func(port uint32) *agentv1.Peer {
		return &agentv1.Peer{Ip: "10.0.0.2", Port: port, Identity: 256, Namespace: "demo", Pod: "client", Labels: []string{"k8s:app=client"}}
	}
	intruder := func(port uint32) *agentv1.Peer {
		return &agentv1.Peer{Ip: "10.0.0.3", Port: port, Identity: 300, Namespace: "demo", Pod: "intruder", Labels: []string{"k8s:app=intruder"}}
	}
	backend := &agentv1.Peer{Ip: "10.0.0.4", Port: 8080, Identity: 257, Namespace: "demo", Pod: "backend-v1", Labels: []string{"k8s:app=backend"}}
	host := &agentv1.Peer{Ip: "fd00::1", Port: 53, Identity: 1, Entity: "host"}
	outside := &agentv1.Peer{Ip: "192.0.2.7", Port: 443, Identity: 1 << 24, Labels: []string{"cidr:192.0.2.0/24"}}
	const ingress, egress = agentv1.Direction_DIRECTION_INGRESS, agentv1.Direction_DIRECTION_EGRESS
	return []*agentv1.Flow{
		{Time: at(100), Type: 1, Direction: ingress, Source: client(40001), Destination: backend, Protocol: "tcp", TcpFlags: "SYN",
			Ingress: rules("allow", "ingress[0]"), Service: &agentv1.FlowService{Namespace: "demo", Name: "backend", Port: 80}},
		{Time: at(123), Type: 2, DropReason: 14, Direction: ingress, Source: intruder(41234), Destination: backend, Protocol: "tcp",
			TcpFlags: "SYN", Ingress: rules("deny", ""), Count: 1},
		{Time: at(200), Type: 2, DropReason: 13, Direction: egress, Source: intruder(41235), Destination: outside, Protocol: "udp",
			Egress: rules("deny", "egressDeny[1]"), Count: 20},
		{Time: at(300), Type: 2, DropReason: 6, Direction: egress, Source: intruder(0), Destination: backend, Protocol: "icmp", IcmpType: 8, Count: 1},
		{Time: at(400), Type: 5, Direction: ingress, Source: client(0), Destination: backend, Protocol: "icmpv6", IcmpType: 128,
			Ingress: rules("audit", "ingressDeny[0]")},
		{Time: at(500), Type: 1, Direction: egress, Source: client(40002), Destination: host, Protocol: "udp"},
		{Time: at(600), Type: 3, Source: client(40001), Destination: backend, Protocol: "tcp", TcpFlags: "SYN,FIN,ACK",
			Age:     durationpb.New(1234 * time.Millisecond),
			Forward: &agentv1.Counters{Packets: 10, Bytes: 1200}, Reverse: &agentv1.Counters{Packets: 8, Bytes: 5 << 20}},
	}
}
