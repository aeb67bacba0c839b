// SPDX-License-Identifier: Apache-2.0

package mutation

const (
	policyTests   = "./pkg/policy"
	engineTests   = "./agent/engine"
	datapathTests = "./pkg/datapath"
	failing       = "TestADeniedPrefixStaysDeniedWhileWritesFail|TestAnyWriteThatFailsAtRandomEndsInTheRightState"
	reference     = "TestCompiledRowsAgreeWithReference"
)

// agentFaults are faults of the compiler, of the writers, and of what is between.
func agentFaults() []fault {
	return []fault{
		{"allow over deny", "pkg/policy/resolve.go",
			"return s.precedence > o.precedence ||", "return s.precedence < o.precedence ||", policyTests, reference},
		{"of rules that say the same, the last one decides", "pkg/policy/resolve.go",
			"s.order < o.order", "s.order > o.order", policyTests, "TestTheFirstOfEqualRulesIsNamed"},
		{"a range without its last port", "pkg/policy/resolve.go",
			"lo <= uint32(last);", "lo < uint32(last);", policyTests, reference},
		{"blocks of ports that are not aligned", "pkg/policy/resolve.go",
			"size = lo & -lo", "size = 1 << 16", policyTests, "TestRangesBecomeFewPrefixes"},
		{"a short allow hides a long deny", "pkg/policy/resolve.go",
			"if around(kept, p) >= s.precedence {", "if around(kept, p) > 0 {", policyTests, "TestDenyWinsWhateverIsLonger"},
		{"denies with the precedence of allows", "pkg/policy/build.go",
			"return PrecedenceDeny", "return PrecedenceAllow", policyTests, reference},
		{"named ports of the other side", "pkg/policy/build.go",
			"if b.direction == model.Egress {\n\t\tnamed = peer", "if b.direction == model.Ingress {\n\t\tnamed = peer", policyTests, "TestNamedPorts"},
		{"entries of the other direction", "pkg/policy/build.go",
			"Direction: b.direction, Peer: peer,", "Direction: 1 - b.direction, Peer: peer,", policyTests, reference},
		{"a named port without its protocol", "pkg/policy/build.go",
			"n.Name == p.Name && (p.Protocol == 0 || p.Protocol == n.Protocol)", "n.Name == p.Name", policyTests, reference},
		{"exceptions of a prefix are forgotten", "pkg/policy/universe.go",
			"return !slices.ContainsFunc(s.peer.Except, func(x netip.Prefix) bool { return covers(x, e.prefix) })", "return true", policyTests, reference},
		{"NotIn where the label is missing", "pkg/policy/selector.go",
			"return !has(r, labels, true)", "return has(r, labels, false) && !has(r, labels, true)", policyTests, reference},
		{"isolation of the other direction", "pkg/policy/compile.go",
			"res.Isolate[d] = true", "res.Isolate[1-d] = true", policyTests, reference},
		{"rules of a policy that has gone stay", "pkg/policy/compile.go",
			"s.policies = slices.Delete(s.policies, i, i+1)\n\t\t\ts.stale = true", "s.policies = slices.Delete(s.policies, i, i+1)", policyTests, "TestHistoryAndOrderDoNotMatter"},
		{"a prefix of a policy inside the cluster's ranges", "pkg/policy/prefix.go",
			"if !inside {", "if !inside || len(cluster) > 0 {", policyTests, "TestAddressesInsideTheClusterAreNeverTheWorld"},

		{"port prefixes of a wrong length", "pkg/datapath/policysets.go",
			"key.Prefixlen = polBitsProto + uint32(e.PortBits)", "key.Prefixlen = polBitsProto + uint32(e.PortBits)/8*8", agreeTests, agreement},
		{"ports in the order of the machine", "pkg/datapath/policysets.go",
			"[]byte{byte(v >> 8), byte(v)}", "[]byte{byte(v), byte(v >> 8)}", agreeTests, agreement},
		{"entries of ingress only are taken for none", "pkg/datapath/policysets.go",
			"flags |= weftbpf.BpfWeftEpFlagWEFT_EP_RULES_INGRESS", "flags |= weftbpf.BpfWeftEpFlagWEFT_EP_RULES_EGRESS", agreeTests, agreement},
		{"a set that a row names is removed", "pkg/datapath/policysets.go",
			"if row.Ifindex != 0 && row.Polset == place.index {", "if false {", datapathTests, "TestPolicySetsAreStoredOnceAndKnownAfterARestart"},
		{"the epoch stays when the policy set moves", "pkg/datapath/endpoints.go",
			"have.Polset == want.Polset && ", "", datapathTests, "TestEpochMovesWithWhatDecides"},
		{"the epoch stays when the identity moves", "pkg/datapath/endpoints.go",
			"have.Identity == want.Identity && ", "", datapathTests, "TestEpochMovesWithWhatDecides"},
		{"a row is written once", "pkg/datapath/endpoints.go",
			"writes = 2", "writes = 1", datapathTests, "TestEpochMovesWithWhatDecides"},
		{"the default deny of the other direction in a row", "pkg/datapath/endpoints.go",
			"if row.EnforceEgress {\n\t\tflags |= weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_EGRESS", "if row.EnforceIngress {\n\t\tflags |= weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_EGRESS", agreeTests, agreement},
		{"epochs begin again with every agent", "pkg/datapath/loader.go",
			"d.epoch = max(d.epoch, row.Epoch)", "", datapathTests, "TestEpochIsNotGivenOutAgainAfterARestart"},
		{"no sweep when an address changes its identity", "pkg/datapath/ips.go",
			"if before[i] != after[i] {", "if before[i] == after[i] {", datapathTests, "TestChangedAddressesHaveTheirFlowsDecidedAgain"},
		{"a sweep that was cut short is forgotten", "pkg/datapath/ips.go",
			"if all {", "if all && len(changed) > 1<<20 {", datapathTests, "TestASweepThatWasCutShortIsMadeUpFor"},

		{"a detached device counts as attached", "pkg/reconcile/apply.go",
			"delete(r.attached, slot)\n\treturn r.dp.Detach", "return r.dp.Detach", engineTests, "TestAnEndpointThatComesBackAfterAFailedRemovalIsAttachedAgain"},
		{"addresses go before the sets that know them", "pkg/reconcile/apply.go",
			"return behind && want[p].Identity.IsLocal()", "return false", engineTests, failing},
		{"a row that failed counts as written", "pkg/reconcile/rows.go",
			"r.unsure[k] = true\n\treturn r.fail(k, err, now)\n}\n\n// removed", "return r.fail(k, err, now)\n}\n\n// removed", engineTests + " ./pkg/reconcile", failing + "|TestARowIsUnsureAfterAFailure"},
		{"a slot's row is kept though nothing is known of it", "pkg/reconcile/apply.go",
			"if hold[slot] {\n\t\t\tcontinue", "if false {\n\t\t\tcontinue", engineTests, "TestARunningEndpointKeepsItsRowWhileItsIdentityIsUnknown"},
		{"identities are removed before the rules that name them", "agent/engine/plan.go",
			"step{policies: s.Policies, universe: all, reachable: all},\n", "", engineTests, "TestPlanAddsIdentitiesBeforeRulesAndRemovesThemAfter"},
		{"a step goes on though sets do not know all numbers", "agent/engine/run.go",
			"if i > 0 && !e.knowsAll(st) {", "if i < 0 {", engineTests, failing},
		{"the host may not reach its pods", "agent/engine/implicit.go",
			"Peers:     []model.Peer{{Entity: \"host\"}},", "", engineTests, "TestTheHostReachesItsPods"},
		{"entries of a direction that is not isolated", "agent/engine/implicit.go",
			"if isolated[e.Direction] ||", "if isolated[1-e.Direction] ||", engineTests, "TestTheHostReachesItsPods|TestEventsOfEveryKindInAnyOrderGiveTheSameMaps"},
		{"default deny of the other direction in the desired rows", "agent/engine/compile.go",
			"EnforceEgress: r.Isolate[model.Egress], EnforceIngress: r.Isolate[model.Ingress],",
			"EnforceEgress: r.Isolate[model.Ingress], EnforceIngress: r.Isolate[model.Egress],", engineTests, "TestTheHostReachesItsPods"},

		{"a policy without types isolates egress", "pkg/api/netpol/netpol.go",
			"out[model.Ingress], out[model.Egress] = true, len(obj.Spec.Egress) > 0", "out[model.Ingress], out[model.Egress] = true, true", "./pkg/api/netpol", "TestConversion"},
		{"peers of any namespace", "pkg/api/netpol/netpol.go",
			"} else {\n\t\treqs = append(reqs, c.ownNamespace())\n\t}", "}", "./pkg/api/netpol", "TestConversion"},
		{"rules that do not isolate", "pkg/api/v1alpha1/convert.go",
			"return rules > 0", "return false", "./pkg/api/v1alpha1", "TestConversion"},
		{"an empty list of peers means everybody", "pkg/api/v1alpha1/convert_peers.go",
			"if !there && l.ports {", "if l.ports {", "./pkg/api/v1alpha1", "TestConversion"},
		{"new connections to backends that are going away", "pkg/lb/compile.go",
			"b.Ready && !b.Terminating:", "b.Ready || b.Terminating:", "./pkg/lb", "TestBackendsByStateAndFamily"},
	}
}
