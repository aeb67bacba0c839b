// SPDX-License-Identifier: Apache-2.0

package mutation

const overlayTests = "./tests/overlay"

// betweenFaults are faults of what goes by the tunnel, and of ports of nodes that are a pod's.
func betweenFaults() []fault {
	return []fault{
		{"frames from anybody are marked", "bpf/lib/uplink.h",
			"if (!weft_is_outer(&p->src))", "if (false)", kernelTests, "TestFramesOfNodesAreMarkedAtTheUplink"},
		{"frames in fragments are marked", "bpf/lib/uplink.h",
			"if (p->frag)\n\t\t\treturn WEFT_DROP_FRAGMENT;", "", kernelTests, "TestFramesInFragmentsAreNotBelieved"},
		{"pods come bare", "bpf/lib/uplink.h",
			"return WEFT_DROP_BARE_POD;", "return WEFT_PASSED;", kernelTests, "TestPodsOfOtherNodesDoNotComeBare"},
		{"frames without a mark are believed", "bpf/lib/overlay.h",
			"if (!p || !weft_tunnel_marked(ctx))", "if (!p)", overlayTests, "TestFramesFromElsewhereThanTheUplinkAreDropped"},
		{"a node speaks for any address", "bpf/lib/overlay.h",
			"if (ip.node != p->node || ip.slot || !weft_is_node(ip.identity))", "if (false)", overlayTests, "TestForgedFramesAreDropped"},
		{"a node's pods have any identity", "bpf/lib/overlay.h",
			"return p->wire >= WEFT_ID_CLUSTER_MIN && p->wire < WEFT_ID_LOCAL_MIN", "return true", overlayTests, "TestForgedFramesAreDropped"},
		{"the tunnel leads anywhere", "bpf/lib/overlay.h",
			"return WEFT_DROP_TUNNEL_TARGET;\n}\n\n/*\n * Translates", "return WEFT_FOR_STACK;\n}\n\n/*\n * Translates", overlayTests, "TestForgedFramesAreDropped"},
		{"an identity that is not known is taken for known", "bpf/lib/overlay.h",
			"p->wire >= WEFT_ID_CLUSTER_MIN && !weft_is_known(p->wire)", "false", overlayTests, "TestUnknownIdentityIsUnknownUntilItIsKnown"},
		{"what was decided about an unknown stands", "bpf/lib/tunnel.h",
			"(other == WEFT_ID_UNKNOWN && !weft_is_known(p->wire))", "other == WEFT_ID_UNKNOWN", overlayTests, "TestConnectionOfAnUnknownIsDecidedAgainOnceKnown"},
		{"another identity goes on with the old decision", "bpf/lib/tunnel.h",
			"if (ct->wire != p->wire || ct->node != p->node)\n\t\treturn false;\n\treturn other == p->ident[0] ||", "return true ||", overlayTests, "TestConnectionIsDecidedAgainWhenItsIdentityChanges"},
		{"pods speak to the tunnel", "bpf/lib/ctnew.h",
			"if (weft_is_tunnel_talk(p))", "if (false)", kernelTests, "TestPodsDoNotSpeakToTheTunnel"},
		{"frames are translated", "bpf/lib/uplink.h",
			"p->dport == bpf_htons(weft_cfg.tunnel_port))\n\t\treturn WEFT_PASSED;", "false)\n\t\treturn WEFT_PASSED;", kernelTests, "TestFramesOfTheTunnelAreNotTranslated"},

		{"a reset answers at a pod's port", "bpf/lib/hostport.h",
			"if (!(p->tcp & TCP_RST))\n\t\tn->flags", "n->flags", kernelTests, "TestUnansweredFlowsToPortsAreBounded"},
		{"an answered flow to a pod's port goes in a flood", "bpf/lib/hostport.h",
			"if (n && (n->flags & WEFT_NAT_ASKED))", "if (n)", kernelTests, "TestAnsweredFlowToAPortOutlivesAFlood"},
		{"unanswered flows to pods' ports are not bounded", "bpf/lib/hostport.h",
			"weft_port_evict(row, &out);", "", kernelTests, "TestUnansweredFlowsToPortsAreBounded"},
		{"the pod that had the port keeps its flows", "bpf/lib/hostport.h",
			"if (n && !weft_port_stands(n)) {", "if (false) {", kernelTests, "TestPortPassesToAnotherPod"},
		{"any packet opens a flow to a pod's port", "bpf/lib/hostport.h",
			"return (p->tcp & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;", "return true;", kernelTests, "TestPortOfAPod|TestPortsThatAreTheHosts|TestPortPassesToAnotherPod"},
		{"services are served at the uplink", "bpf/lib/hostport.h",
			"return svc && (svc->flags & WEFT_SVC_PORT) ? svc : NULL;", "return svc;", kernelTests, "TestPortsThatAreTheHosts"},
		{"a refused flow to a pod's port keeps its keys", "bpf/workload.c",
			"weft_port_refused(&p);", "", kernelTests, "TestPortsKeysEnd"},
		{"who has another way back comes in past the stack", "bpf/lib/past.h",
			"return row && row->ifindex == ctx->ifindex;", "return row;", kernelTests, "TestWhatComesForPodsOtherwiseGoesToTheStack"},
		{"anybody comes in past the stack", "bpf/lib/past.h",
			"ip.slot || !weft_is_elsewhere(ip.identity) ||", "", kernelTests, "TestWhatComesForPodsOtherwiseGoesToTheStack"},
		{"what is sent to another MAC passes the stack by", "bpf/lib/direct.h",
			"ctx->pkt_type == PACKET_HOST && ", "", kernelTests, "TestWhatComesForPodsOtherwiseGoesToTheStack|TestWhatTheStackMustSeeGoesThere"},
		{"what is larger than the way passes the stack by", "bpf/lib/past.h",
			"|| weft_wire_size(ctx, p) > row->mtu", "", kernelTests, "TestWhatTheStackMustSeeGoesThere"},
		{"the proxy's flows pass the stack by", "bpf/lib/direct.h",
			"!ct->ruleset && ", "", kernelTests, "TestFlowsOfTheProxyDoNotPassTheStackBy"},
		{"a route of an earlier tick is good", "bpf/lib/route.h",
			"row->at == p->now && ", "", kernelTests, "TestRoutesAreForgottenWithTheirTick"},
		{"a port that connects again keeps what was decided", "bpf/lib/ctrenew.h",
			"return p->tcp && !flags && ", "return p->tcp && flags < 255 && ", kernelTests, "TestAPortThatConnectsAgainBeginsAnew"},

		{"others' answers come to a pod's port", "bpf/lib/uplink.h",
			"|| !weft_port_taken(p, to))", "|| true)", kernelTests, "TestAnswersAreNotTakenForAPort"},
	}
}
