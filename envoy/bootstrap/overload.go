// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"time"

	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	heapMonitor        = "envoy.resource_monitors.fixed_heap"
	connectionsMonitor = "envoy.resource_monitors.global_downstream_max_connections"
	refresh            = 250 * time.Millisecond
)

// overloadManager gives memory back first, then ends keep-alive, then takes no more
// requests and connections: what is full is refused before it harms others.
func overloadManager(c Config) (*overloadv3.OverloadManager, error) {
	m := &overloadv3.OverloadManager{RefreshInterval: durationpb.New(refresh)}
	for _, r := range []struct {
		name   string
		config proto.Message
	}{
		{heapMonitor, &heapv3.FixedHeapConfig{MaxHeapSizeBytes: c.MaxHeapBytes}},
		{connectionsMonitor, &connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(c.MaxConnections)}},
	} {
		packed, err := anypb.New(r.config)
		if err != nil {
			return nil, fmt.Errorf("encoding the monitor %s: %w", r.name, err)
		}
		m.ResourceMonitors = append(m.ResourceMonitors, &overloadv3.ResourceMonitor{
			Name: r.name, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: packed}})
	}
	for _, a := range []struct {
		action string
		at     float64
	}{
		{"shrink_heap", 0.85},
		{"disable_http_keepalive", 0.90},
		{"stop_accepting_requests", 0.95},
		{"stop_accepting_connections", 0.98},
	} {
		m.Actions = append(m.Actions, &overloadv3.OverloadAction{
			Name: "envoy.overload_actions." + a.action,
			Triggers: []*overloadv3.Trigger{{Name: heapMonitor,
				TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: a.at}}}},
		})
	}
	return m, nil
}
