// SPDX-License-Identifier: Apache-2.0

// Package bootstrap writes the configuration with which Envoy starts: where the
// agent is, and how much Envoy may take of the node. Everything else comes from the
// agent. Its functions are pure.
package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weftmesh/weft/envoy/xds"
)

// Names of the sockets in the folder of the node's sockets.
const (
	ADSSocket = "xds.sock"
	ALSSocket = "als.sock"
)

// AdminSocket is the name of Envoy's own socket, in its folder.
const AdminSocket = "envoy-admin.sock"

// Config is what differs between nodes.
type Config struct {
	Node           string // name of the node, in what Envoy says of itself
	Proxy          Proxy  // which one it is, in the same place
	RunDir         string // of the node's sockets, absolute
	Dir            string // of what is this Envoy's alone, absolute; empty: RunDir
	MaxHeapBytes   uint64 // of Envoy's memory; requests are refused when it is near
	MaxConnections uint64 // of clients, over all rulesets
}

// OwnDir is the folder of what is this Envoy's alone.
func (c Config) OwnDir() string {
	if c.Dir == "" {
		return c.RunDir
	}
	return c.Dir
}

const (
	connectTimeout = 2 * time.Second
	ownerOnly      = 0o600
)

// Build gives the file's content, the same for the same configuration.
func Build(c Config) ([]byte, error) {
	if !filepath.IsAbs(c.RunDir) || !filepath.IsAbs(c.OwnDir()) || c.MaxHeapBytes == 0 || c.MaxConnections == 0 {
		return nil, errors.New("building Envoy's bootstrap: an absolute folder and bounds of memory and connections are needed")
	}
	overload, err := overloadManager(c)
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node:  &corev3.Node{Id: c.Node, Cluster: "weft", Metadata: c.Proxy.Metadata()},
		Admin: &bootstrapv3.Admin{Address: pipe(filepath.Join(c.OwnDir(), AdminSocket), ownerOnly)},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &corev3.ApiConfigSource{
				ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: xds.ADSCluster}}}},
			},
			CdsConfig: fromADS(),
			LdsConfig: fromADS(),
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{
			local(xds.ADSCluster, filepath.Join(c.RunDir, ADSSocket)),
			local(xds.ALSCluster, filepath.Join(c.RunDir, ALSSocket)),
		}},
		OverloadManager: overload,
		StatsConfig:     &metricsv3.StatsConfig{StatsMatcher: fewStats()},
	}
	b.LayeredRuntime, err = runtime()
	if err != nil {
		return nil, err
	}
	return encode(b)
}

// encode makes text that does not differ from one build of the library to another,
// as protojson's own does on purpose.
func encode(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding Envoy's bootstrap: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding Envoy's bootstrap: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func pipe(path string, mode uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: mode}}}
}

func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// local is a service of the agent, by gRPC over a socket.
func local(name, path string) *clusterv3.Cluster {
	grpc := &upstreamsv3.HttpProtocolOptions{UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}}}}}
	packed, err := anypb.New(grpc)
	if err != nil {
		panic(fmt.Sprintf("encoding protocol options: %v", err))
	}
	return &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(connectTimeout),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: pipe(path, 0)}}}}}}},
	}
}

// fewStats are those that tell how Envoy is: of thousands that it could have.
func fewStats() *metricsv3.StatsMatcher {
	var wanted []*matcherv3.StringMatcher
	for _, p := range []string{"server.", "listener_manager.", "cluster_manager.", "control_plane.", "overload.",
		"http.weft.downstream_", "tcp.weft.downstream_", "listener.weft.downstream_", "listener.weft.no_filter_chain_match",
		"cluster.weft-original.upstream_cx_", "cluster.weft-original.upstream_rq_", "access_logs.open_telemetry_access_log."} {
		wanted = append(wanted, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: p}})
	}
	return &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{
		InclusionList: &matcherv3.ListStringMatcher{Patterns: wanted}}}
}

// maxProgram is the greatest expression, in RE2's measure, that rules may have.
const maxProgram = 20000

func runtime() (*bootstrapv3.LayeredRuntime, error) {
	layer, err := structpb.NewStruct(map[string]any{
		"re2.max_program_size.error_level": maxProgram,
		"re2.max_program_size.warn_level":  maxProgram,
		// A header that comes twice has its values joined, so that neither is the one
		// that a rule asks for. Otherwise one of them would do, and a server could take
		// the other.
		"envoy.restart_features.xds_failover_support":          true,
		"envoy.reloadable_features.match_headers_individually": false,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding runtime settings: %w", err)
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "weft", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: layer}}}}, nil
}
