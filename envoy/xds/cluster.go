// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	upstreamName = "weft-original" // where the client wanted to
	nowhereName  = "weft-nowhere"  // a cluster of no one: what goes to it ends, and is logged
)

const (
	connectTimeout = 10 * time.Second
	// upstreamIdle is shorter than what servers give connections that are idle
	// (Node.js 5 s), so that no request meets one that is just being closed.
	upstreamIdle = 4 * time.Second
	// plenty stands for no bound: what one ruleset's connections do must not refuse
	// those of another. The number of connections has its bound at the front door.
	plenty = 1 << 30
)

// upstream is the way to servers, in the protocol that the client spoke.
func upstream(o Options) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                          upstreamName,
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(buffer),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(plenty), MaxPendingRequests: wrapperspb.UInt32(plenty),
			MaxRequests: wrapperspb.UInt32(plenty), MaxRetries: wrapperspb.UInt32(plenty),
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(asDownstream())},
	}
	if o.direct() {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		c.LoadAssignment = assignment(upstreamName, o.Backend)
	}
	return c
}

func asDownstream() *upstreamsv3.HttpProtocolOptions {
	return &upstreamsv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:          durationpb.New(upstreamIdle),
			MaxHeadersCount:      wrapperspb.UInt32(maxHeaders),
			MaxResponseHeadersKb: wrapperspb.UInt32(maxHeadersKB),
		},
		UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &upstreamsv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: http1(), Http2ProtocolOptions: http2()}},
	}
}

func nowhere() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 nowhereName,
		ConnectTimeout:       durationpb.New(connectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: nowhereName},
	}
}

func assignment(name string, to netip.AddrPort) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: socketAddress(to)}}}}}}}
}
