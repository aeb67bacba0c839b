// SPDX-License-Identifier: Apache-2.0

package mutation

const (
	l7Tests       = "./tests/l7"
	xdsTests      = "./envoy/xds"
	proxyTests    = "./tests/proxy"
	sessionTests  = "./envoy/server"
	rulesetsTests = "./pkg/policy/rulesets"
)

// requestFaults are faults of what leads connections into the proxy, and of what it is told.
func requestFaults() []fault {
	return []fault{
		{"legs are not told apart by who sends", "bpf/lib/proxy.h",
			"own != weft_proxy_sent(ct, reply);", "own == weft_proxy_sent(ct, reply);", kernelTests, "TestBothLegsMayHaveOnePort"},
		{"any two flows share their addresses and ports", "bpf/lib/proxy.h",
			"if (fresh && p->rival && !weft_proxy_joins(p, now))", "if (fresh && p->rival && !weft_proxy_joins(p, now) && !now)", kernelTests, "TestWhoComesSecondToAPortIsTold"},
		{"a leg between shares them", "bpf/lib/proxy.h",
			"leg == WEFT_LEG_UPSTREAM && p->rival ==", "p->rival ==", kernelTests, "TestWhoComesSecondToAPortIsTold"},
		{"a translated flow shares them", "bpf/lib/leg.h",
			"if (leg != WEFT_LEG_UPSTREAM && (other->flags & WEFT_CT_NAT))", "if (false)", kernelTests, "TestATranslatedFlowSharesItsPortWithNobody"},
		{"a call by a port of the proxy's is refused", "bpf/lib/proxy.h",
			"\t\tnow->ruleset = p->rival_has;\n", "\t\treturn false;\n", kernelTests, "TestACallByAPortOfTheProxysComesIntoIt"},
		{"what the proxy opens lies among all others", "bpf/lib/leg.h",
			"beside = passed || weft_leg_past(p, one, two, own);", "beside = passed && weft_leg_past(p, one, two, own);", kernelTests, "TestBothLegsMayHaveOnePort"},
		{"answers to the proxy are an ended flow's", "bpf/lib/leg.h",
			"(weft_ct_ended(one) && !weft_ct_ended(two))", "(weft_ct_ended(one) && weft_ct_ended(two))", kernelTests, "TestWhatEndedHasNoneOfTheProxysAnswers"},
		{"a port that the proxy uses again goes on with the old flow", "bpf/lib/leg.h",
			"if (weft_ct_fresh(p, two, reply) || ", "if (", kernelTests, "TestTheProxyUsesAPortAgain"},
		{"a leg goes on with what was decided before", "bpf/lib/leg.h",
			"!weft_ct_holds(ctx, p, row, p->hook, two, reply)", "false", kernelTests, "TestOpenConnectionsStayWithTheirPass"},
		{"what is left of a leg ends the other", "bpf/lib/ctnew.h",
			"\t\t\tweft_proxy_see(ctx, p, ct, reply);\n\t\t\treturn WEFT_PASSED;\n", "", kernelTests, "TestWhatIsLeftOfALegDoesNotEndTheOther"},
		{"the ruleset of ingress before that of egress", "bpf/lib/proxy.h",
			"return first ? first : then;", "return then ? then : first;", kernelTests, "TestStagesArePassedInOrder"},
		{"who passed more comes again", "bpf/lib/proxy.h",
			"if (weft_ruleset_satisfies(passed, then) &&", "if (passed == then &&", kernelTests, "TestStagesArePassedInOrder"},
		{"open connections move into the proxy", "bpf/lib/proxy.h",
			"if (was && !fresh && !opens)", "if (false)", kernelTests, "TestOpenFlowsCannotMove"},
		{"a connection that follows becomes the other ruleset's", "bpf/lib/proxy.h",
			"\tnow->ruleset = was->ruleset;\n", "", kernelTests, "TestLegsFollowTheirRuleset"},
		{"open connections go on under any ruleset", "bpf/lib/proxy.h",
			"else if (now->ruleset && !weft_ruleset_satisfies(was->ruleset, now->ruleset))", "else if (false)", kernelTests, "TestLegsFollowTheirRuleset"},
		{"a call goes to a proxy that does not listen", "bpf/lib/proxy.h",
			"if (opens && now->ruleset &&", "if (false && now->ruleset &&", kernelTests, "TestNobodyListensForTheRuleset"},
		{"a call that comes again does, too", "bpf/lib/ctnew.h",
			"if (weft_proxy_opens(p) && !(ct->flags & WEFT_CT_UPSTREAM) &&", "if (false &&", kernelTests, "TestACallThatComesAgainIsTold"},
		{"into a pod goes what others forge", "bpf/lib/proxy.h",
			"p->hook == WEFT_INGRESS && !ctx->ingress_ifindex && weft_proxy_leaves(ct, reply)", "p->hook == WEFT_INGRESS && weft_proxy_leaves(ct, reply)", kernelTests, "TestOnlyTheProxySendsForItsLegs"},
		{"the host's own clients count as unanswered", "bpf/lib/proxy.h",
			"return ct->ruleset && !(ct->flags & WEFT_CT_UPSTREAM) && p->hook == WEFT_INGRESS &&", "return false && ct->ruleset &&", kernelTests, "TestDownstreamLegsGoToTheProxy"},
		{"a socket that waits gets the answers of the other leg", "bpf/lib/proxyway.h",
			"if (weft_ct_any(&key, p->family, &answered))\n\t\treturn 0;", "", kernelTests, "TestASocketThatWaitsGetsNoAnswersOfTheOtherLeg"},
		{"what the proxy sends to the world is not followed", "bpf/lib/proxyway.h",
			"if (from || p->proto != PROTO_TCP", "if (true || from || p->proto != PROTO_TCP", kernelTests, "TestLegsToTheWorld"},
		{"answers of the world go to the stack", "bpf/lib/proxyway.h",
			"if (!(ct && ct->ruleset) && !(weft_proxy_opens(p)", "if (!(ct && ct->ruleset && false) && !(weft_proxy_opens(p)", kernelTests, "TestLegsToTheWorld"},
		{"a call whose flow is gone goes to any listener", "bpf/lib/listen.h",
			"\t\treturn -1;\n\treturn 0;", "\t\treturn 0;\n\treturn 0;", l7Tests, "TestAListenerOfTheHostGetsNoCallOfAPods"},

		{"a rule with a fault counts", "envoy/xds/check.go",
			"return f.Policy == r.Policy && f.Rule == r.Name", "return false", xdsTests, "TestGolden"},
		{"a fault takes its policy's other rules away", "envoy/xds/check.go",
			"return f.Policy == r.Policy && f.Rule == r.Name", "return f.Policy == r.Policy", xdsTests, "TestGolden"},
		{"one rule less is not enough, and no more go", "envoy/xds/check.go",
			"for all > maxMatchers {", "if all > maxMatchers {", xdsTests, "TestRulesThatWouldTakeTooMuchAreAFault"},
		{"what no rule allows passes", "envoy/xds/route.go",
			"return append(all, everything(Verdict{Outcome: Denied}, refuse(refusal(\"denied by policy\", rs.Ruleset)))...)",
			"return append(all, everything(Verdict{Outcome: Denied}, pass)...)", xdsTests, "TestGolden"},
		{"paths that servers read in different ways pass", "envoy/xds/route.go",
			"all := odd()", "all := odd()[:0]", xdsTests, "TestGolden"},
		{"a header counts though another looks alike", "envoy/xds/headers.go",
			"always = append(always, withoutLookalikes(m.Name)...)", "", xdsTests, "TestGolden"},
		{"a refused response is sent again and again", "envoy/server/session.go",
			"refused && r.version == version", "refused && r.version != version", sessionTests, "TestProxiesEndWithWhatIsWanted"},
		{"of a refused response nothing is sent alone", "envoy/server/session.go",
			"case nack && len(sent.versions) > 1:", "case nack && len(sent.versions) > maxBatch:", sessionTests, "TestOneBadAmongManyIsFound"},
		{"what a number says is not asked of every peer", "pkg/policy/rulesets/next.go",
			"if e.Peer == model.IdentityNone {", "if false {", rulesetsTests, "TestWhatARetiredNumberSays"},
		{"a number is given twice", "pkg/policy/rulesets/book.go",
			"for used[id] {", "for false {", rulesetsTests, "TestAllNumbersAreTaken"},
		{"what has no number passes", "pkg/policy/rulesets/next.go",
			"if e.Ruleset == 0 {\n\t\t\te.Action = model.ActionDeny\n\t\t}", "", rulesetsTests, "TestInForceRefusesWhatHasNoNumber"},
		{"the kernel names a ruleset that the proxy has not", "agent/engine/rulesets.go",
			"e.awaitProxy(ctx)\n\t}", "_ = ctx\n\t}", engineTests, "TestTheProxyKnowsARulesetBeforeTheKernelNamesIt"},
		{"a number that connections have is given up", "pkg/policy/rulesets/book.go",
			"return needed[id] })", "return needed[id] && false })", engineTests, "TestNumbersOutliveTheAgentAndTheirEntries"},
	}
}

// pairFaults are faults of what has two rulesets enforced in one pass.
func pairFaults() []fault {
	return []fault{
		{"a pair is passed for its second ruleset alone", "bpf/lib/proxy.h",
			"(!first || !weft_ruleset_paired(passed) || weft_ruleset_satisfies(passed, first))", "true", kernelTests, "TestAPairSatisfiesItsRulesetsAlone"},
		{"a pair satisfies what its first ruleset does alone", "bpf/lib/proxy.h",
			"weft_ruleset_covers(row->first, other) || weft_ruleset_covers(row->then, other)", "weft_ruleset_covers(row->first, other)", kernelTests, "TestAPairSatisfiesItsRulesetsAlone"},
		{"a pair's connection goes on whatever is asked", "bpf/lib/proxy.h",
			"if (weft_ruleset_next(was->ruleset, first, then))", "if (false)", kernelTests, "TestOpenConnectionsStayWithTheirPass"},
		{"a connection gets a pair that nobody listens for", "bpf/lib/proxy.h",
			"return pair && weft_proxy_ready(*pair, family) ? *pair : 0;", "return pair && (family || weft_proxy_ready(*pair, family)) ? *pair : 0;", kernelTests, "TestBothRulesetsAreOnePass"},
		{"who has passed one ruleset gets the pair", "bpf/lib/proxy.h",
			"if (begins && !p->passed)", "if (begins)", kernelTests, "TestBothRulesetsAreOnePass"},
		{"an open connection moves to a pair", "bpf/lib/proxy.h",
			"weft_proxy_leg(p, now, fresh || opens);", "weft_proxy_leg(p, now, true);", kernelTests, "TestOpenConnectionsStayWithTheirPass"},
		{"a request of a pair is looked at once", "envoy/xds/pair.go",
			"ClearRouteCache:  true,", "", xdsTests, "TestGolden"},
		{"a pair with a fault lets pass", "envoy/xds/xds.go",
			"sift(*rs.Then, check(*rs.Then))", "sift(*rs.Then, nil)", proxyTests, "TestAPairIsAsItsRulesetsAre"},
		{"a ruleset that a pair needs is given up", "pkg/policy/rulesets/book.go",
			"needed[p.First], needed[p.Then] = true, true", "_ = p", rulesetsTests, "TestAPairSaysWhatItsRulesetsSay"},
		{"connections get a pair before the proxy has it", "pkg/policy/rulesets/book.go",
			"Begin: ok && was.of() == p.of() && !was.Retired", "Begin: ok && was.of() == p.of() || !p.Retired", rulesetsTests, "TestWhenConnectionsGetAPair"},
		{"TLS and HTTP are a pair", "pkg/policy/rulesets/pairs.go",
			"return len(r.L7.ServerNames) > 0", "return false", rulesetsTests, "TestWhatIsNoPair"},
	}
}
