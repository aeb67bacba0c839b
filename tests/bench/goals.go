// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
)

// goals is every figure that has a goal or is compared with another one.
func goals() []goal {
	return slices.Concat(packetGoals(), trafficGoals(), changeGoals(), memoryGoals(), exportGoals(), nodesGoals(), clusterGoals(), l7Goals())
}

func packetGoals() (out []goal) {
	const unit = "ns/packet"
	for _, v := range []string{"v4", "v6"} {
		within := func(limit float64, group string, figures ...string) {
			for _, f := range figures {
				out = append(out, goal{fmt.Sprintf("tests/bpf/%s/%s", group, f), unit,
					fmt.Sprintf("tests/bpf/%s/empty_program", group), valueAtMost(limit)})
			}
		}
		within(150, "Established/"+v, "from_pod/hot", "to_pod/hot")
		within(230, "Established/"+v, "from_pod/10000_flows", "to_pod/10000_flows")
		within(600, "NewFlow/"+v, "to_world", "to_pod")
		within(250, "Service/"+v, "call", "answer")
		within(350, "Masquerade/tcp/"+v, "in", "out")
		within(350, "Masquerade/udp/"+v, "in", "out")
	}
	return out
}

func trafficGoals() (out []goal) {
	for _, g := range []struct {
		figure, unit string
		bound        bound
	}{
		{"request_p50", "us", ratioAtMost(0.88)},
		{"connect_request_p50", "us", ratioAtMost(0.95)},
		{"stream", "Gbit/s", ratioAtLeast(1)},
	} {
		group := "tests/speed/PodToPod/" + g.figure
		out = append(out, goal{group + "/weft", g.unit, group + "/kernel_routing", g.bound},
			goal{group + "/shortcut", g.unit, group + "/kernel_routing", bound{}})
	}
	for _, count := range []int{1, 1_000, 10_000} {
		group := fmt.Sprintf("tests/speed/ClusterIP/%d_services", count)
		out = append(out, goal{group + "/weft/service", "us", group + "/weft/own_address", ratioAtMost(1.05)})
		for _, tool := range []string{"iptables-nft", "nft"} {
			out = append(out, goal{group + "/" + tool + "/service", "us", group + "/own_address", bound{}})
		}
	}
	return out
}

func changeGoals() []goal {
	return []goal{
		{"tests/speed/ServiceSync/cold", "s", "", valueAtMost(3)},
		{"tests/speed/ServiceSync/one_endpoint_rows", "rows", "", valueAtMost(25)},
		{"tests/speed/ServiceSync/one_endpoint_p99", "ms", "", valueAtMost(20)},
		{"tests/speed/AddPod/p50", "ms", "", valueAtMost(5)},
		{"tests/speed/AddPod/programs_loaded", "programs", "", valueAtMost(0)},
		{"tests/speed/PolicyScale/new_policy_p99", "ms", "", valueAtMost(50)},
		{"tests/speed/PolicyScale/new_identity_p99", "ms", "", valueAtMost(20)},
	}
}

func memoryGoals() []goal {
	const group = "tests/speed/Memory/"
	return []goal{
		{group + "2_pods/agent_rss", "MB", "", valueAtMost(60)},
		{group + "500_pods/agent_rss", "MB", "", valueAtMost(90)},
		{group + "10000_identities/agent_rss", "MB", "", valueAtMost(150)},
		{group + "2_pods/maps", "MB", "", valueAtMost(64)},
		{group + "500_pods/maps", "MB", group + "2_pods/maps", bound{}},
		{group + "10000_identities/policy_maps", "MB", group + "10000_identities/policy_maps_one_each", ratioAtMost(0.1)},
	}
}

func exportGoals() []goal {
	return []goal{
		{"tests/speed/FlowExport/export-on", "connections/s", "tests/speed/FlowExport/export-off", ratioAtLeast(0.97)},
		{"tests/speed/FlowDrain/rate", "events/s", "", valueAtLeast(100_000)},
		{"tests/speed/FlowDrain/lost_uncounted", "events", "", valueAtMost(0)},
	}
}

// nodesGoals are of traffic between nodes, against what the kernel does alone.
func nodesGoals() (out []goal) {
	for _, pair := range [][2]string{{"native", "kernel_routing"}, {"vxlan", "kernel_vxlan"}} {
		for _, g := range []struct {
			figure, unit string
			bound        bound
		}{
			{"request_p50", "us", ratioAtMost(1.05)},
			{"connect_request_p50", "us", ratioAtMost(1.05)},
			{"stream", "Gbit/s", ratioAtLeast(0.95)},
		} {
			group := "tests/speed/Nodes/" + pair[0] + "/" + g.figure
			out = append(out, goal{group + "/weft", g.unit, group + "/" + pair[1], g.bound})
		}
	}
	return out
}

// l7Goals are of requests, against the same Envoy as a plain reverse proxy.
func l7Goals() (out []goal) {
	const bare, without = "/bare_envoy", "/bare_envoy_without_records"
	for _, way := range []string{"http1_kept", "http1_new", "grpc_kept", "grpc_new"} {
		group := "tests/speed/L7/" + way
		compare := func(figure, unit string, b bound) {
			out = append(out, goal{figure + "/weft", unit, figure + bare, b}, goal{figure + without, unit, figure + bare, bound{}})
		}
		compare(group+"/saturation/rate", "requests/s", ratioAtLeast(0.95))
		compare(group+"/saturation/cpu", "us/request", bound{})
		for _, load := range []string{"100_per_s", "500_per_s", "1000_per_s", "saturation"} {
			out = append(out, goal{group + "/" + load + "/failed/weft", "requests", "", valueAtMost(0)})
		}
		for _, rate := range []string{"100_per_s", "500_per_s", "1000_per_s"} {
			compare(group+"/"+rate+"/p50", "us", bound{})
			compare(group+"/"+rate+"/p99", "us", ratioAtMost(1.1))
			compare(group+"/"+rate+"/cpu", "us/request", bound{})
		}
		out = append(out, goal{group + "/1000_per_s/p99_added", "us", "", valueAtMost(1000)})
	}
	return append(out, goal{"tests/speed/L7Memory/both", "MB", "", valueAtMost(150)})
}

func clusterGoals() []goal {
	const group = "tests/cluster/bench/"
	return []goal{
		{group + "PolicyApply/kubectl_to_verdict_p99", "ms", "", valueAtMost(150)},
		{group + "PolicyApply/request_to_verdict_p99", "ms", group + "PolicyApply/kubectl_to_verdict_p99", bound{}},
		{group + "PodAdd/known_identity_p50", "ms", "", valueAtMost(40)},
		{group + "PodAdd/known_identity_p99", "ms", "", valueAtMost(150)},
		{group + "PodAdd/new_identity_p99", "ms", "", valueAtMost(150)},
		{group + "AgentMemory/10000_remote_endpoints", "MB", "", valueAtMost(120)},
	}
}
