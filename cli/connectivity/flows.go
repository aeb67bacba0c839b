// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// flowsIn is how long agents may take to tell their flows.
const flowsIn = 5 * time.Second

// flows asks every agent for the flows of the test's pods since a time. An agent
// that does not answer is an error beside the flows of the others.
func (r *runner) flows(ctx context.Context, since time.Time) ([]*agentv1.Flow, error) {
	ctx, cancel := context.WithTimeout(ctx, flowsIn)
	defer cancel()
	// The nodes' clocks are not this one's.
	req := &agentv1.ObserveFlowsRequest{Since: timestamppb.New(since.Add(-time.Second)),
		Include: []*agentv1.FlowFilter{{Namespace: []string{namespace, namespace2}}}}
	var mu sync.Mutex
	var all []*agentv1.Flow
	var missed []error
	var wg sync.WaitGroup
	for _, agent := range r.Agents {
		wg.Go(func() {
			got, err := flowsOf(ctx, agent, req)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, got...)
			if err != nil {
				missed = append(missed, err)
			}
		})
	}
	wg.Wait()
	return all, errors.Join(missed...)
}

func flowsOf(ctx context.Context, agent *client.Agent, req *agentv1.ObserveFlowsRequest) ([]*agentv1.Flow, error) {
	c, err := agent.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stream, err := c.ObserveFlows(ctx, req)
	if err != nil {
		return nil, c.Explain(err)
	}
	var out []*agentv1.Flow
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, c.Explain(err)
		}
		if f := msg.GetFlow(); f != nil {
			f.Node = agent.Node
			out = append(out, f)
		}
	}
}

// hint adds to the checks that failed what the agents saw of them.
func (r *runner) hint(ctx context.Context, checks []check, failed []int, results []Result, since time.Time) {
	flows, err := r.flows(ctx, since)
	for _, i := range failed {
		if checks[i].from.fault != "" {
			continue
		}
		c := checks[i]
		if results[i].unresolved {
			c.probe.Kind = KindDNS // of what failed, the flows are those of the question
		}
		if results[i].Hint = hintOf(c, flows); results[i].Hint == "" {
			results[i].Hint = c.unseen()
		}
		if err != nil {
			results[i].Hint += "; " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
}

// unseen is where to look when no agent saw why.
func (c check) unseen() string {
	who := c.from.namespace + "/" + c.from.pod
	switch {
	case c.denied:
		return "no agent saw it pass; is the pod one of Weft's? weft endpoint list; weft policy list"
	case c.probe.Kind == KindDNS:
		return "no agent saw a drop of it; is the cluster's DNS ready? kubectl -n kube-system get pods -l k8s-app=kube-dns"
	case c.from.container != container:
		return "no agent saw a drop of it; weft status, and the node's routes"
	}
	return "no agent saw a drop of it; weft observe --pod " + who + " --since 1m, and the node's routes"
}

// hintOf is the line of a flow that tells why: a drop, or if nobody may answer what
// let it pass.
func hintOf(c check, flows []*agentv1.Flow) string {
	want := agentv1.FlowType_FLOW_TYPE_DROP
	if c.denied {
		want = agentv1.FlowType_FLOW_TYPE_NEW
	}
	for i := len(flows) - 1; i >= 0; i-- {
		if f := flows[i]; f.GetType() == want && c.about(f) {
			return "node " + f.GetNode() + ": " + render.Style{Location: time.Local}.Compact(f)
		}
	}
	return ""
}

// about: the flow may be of the check's call, or of the answer to it.
func (c check) about(f *agentv1.Flow) bool {
	_, text, err := net.SplitHostPort(c.probe.Address)
	if c.probe.Kind == KindDNS {
		text, err = "53", nil
	}
	port, parseErr := strconv.ParseUint(text, 10, 16)
	if err != nil || parseErr != nil {
		return false
	}
	there := c.ours(f.GetSource()) && (c.aims(f.GetDestination(), uint32(port)) || f.GetService().GetPort() == uint32(port))
	back := c.ours(f.GetDestination()) && c.aims(f.GetSource(), uint32(port))
	protocol := "tcp"
	if c.probe.Kind == KindUDP || c.probe.Kind == KindDNS {
		protocol = "udp"
	}
	sameFamily := c.probe.Family == 0 || (c.probe.Family == 6) == strings.Contains(f.GetDestination().GetIp(), ":")
	return (there || back) && sameFamily && f.GetProtocol() == protocol
}

// ours: the peer is who calls; a node calls without a pod's name.
func (c check) ours(p *agentv1.Peer) bool {
	if c.from.container != container {
		return p.GetPod() == ""
	}
	return p.GetNamespace() == c.from.namespace && p.GetPod() == c.from.pod
}

// aims: the peer is who is called, as far as the address tells.
func (c check) aims(p *agentv1.Peer, port uint32) bool {
	host, _, err := net.SplitHostPort(c.probe.Address)
	return p.GetPort() == port && (err != nil || c.probe.Kind == KindDNS || net.ParseIP(host) == nil || net.ParseIP(host).Equal(net.ParseIP(p.GetIp())))
}

// flowsAreNamed looks for the flows of the test that just ran: the names of pods,
// and the policy that decided.
func flowsAreNamed(ctx context.Context, r *runner, t *testRun) []Result {
	type wanted struct {
		from *Pod
		kind agentv1.FlowType
		word string
	}
	var results []Result
	until := time.Now().Add(settleIn)
	for {
		flows, err := r.flows(ctx, t.begun)
		results = nil
		missing := 0
		for _, w := range []wanted{
			{r.stage.client, agentv1.FlowType_FLOW_TYPE_NEW, "allowed"},
			{r.stage.stranger, agentv1.FlowType_FLOW_TYPE_DROP, "denied"},
			{r.stage.guest, agentv1.FlowType_FLOW_TYPE_DROP, "denied"},
		} {
			for _, to := range r.stage.servers() {
				result := Result{Test: t.test.Name, Status: OK,
					Check: fmt.Sprintf("weft observe names %s, %s and the policy, %s", w.from.Name, to.Name, w.word)}
				if best := bestFlow(flows, w.from, to, w.kind); best != "" {
					missing++
					result.Status, result.Happened = Failed, best
					result.Expected = fmt.Sprintf("a flow from %s to %s, %s by NetworkPolicy %s/%s", w.from.key(), to.key(), w.word, namespace, t.test.Name)
					if err != nil {
						result.Hint = strings.ReplaceAll(err.Error(), "\n", "; ")
					}
				}
				results = append(results, result)
			}
		}
		if missing == 0 || !time.Now().Before(until) || ctx.Err() != nil {
			return results
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// bestFlow is empty if a flow names both pods and the policy allow-label, else what
// there is instead.
func bestFlow(flows []*agentv1.Flow, from, to *Pod, kind agentv1.FlowType) string {
	instead := "there is no such flow"
	for _, f := range flows {
		s, d := f.GetSource(), f.GetDestination()
		if f.GetType() != kind || s.GetNamespace() != from.Namespace || s.GetPod() != from.Name || d.GetNamespace() != to.Namespace || d.GetPod() != to.Name {
			continue
		}
		for _, rule := range f.GetIngress() {
			if rule.GetKind() == "NetworkPolicy" && rule.GetNamespace() == namespace && rule.GetName() == "allow-label" {
				return ""
			}
		}
		instead = "node " + f.GetNode() + ": " + render.Style{Location: time.Local}.Compact(f)
	}
	return instead
}
