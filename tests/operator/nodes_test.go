// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

const pools = "clusterCIDRs: [10.244.0.0/16, fd00:10:244::/56]\n"

func node(name string, ips ...string) *corev1.Node {
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: v1alpha1.TaintAgentNotReady, Effect: corev1.TaintEffectNoSchedule},
			{Key: "example.com/other", Effect: corev1.TaintEffectNoSchedule}}}}
	out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	for _, ip := range ips {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	out.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return out
}

func createNode(t *testing.T, n *corev1.Node) {
	t.Helper()
	status := n.Status
	must(t, theWorld.client.Create(context.Background(), n))
	n.Status = status
	must(t, theWorld.client.Status().Update(context.Background(), n))
}

func weftNode(name string) (*v1alpha1.WeftNode, error) {
	var out v1alpha1.WeftNode
	return &out, theWorld.client.Get(context.Background(), client.ObjectKey{Name: name}, &out)
}

// ranged waits until a node has both ranges, and these addresses.
func ranged(t *testing.T, name string, addresses ...string) *v1alpha1.WeftNode {
	t.Helper()
	var own *v1alpha1.WeftNode
	eventually(t, "a WeftNode with its ranges", func() (err error) {
		if own, err = weftNode(name); err == nil && (len(own.Spec.PodCIDRs) != 2 || !slices.Equal(own.Spec.Addresses, addresses)) {
			err = fmt.Errorf("%s: %+v", name, own.Spec)
		}
		return err
	})
	return own
}

func event(t *testing.T, reason, text string) {
	t.Helper()
	eventually(t, "an event "+reason, func() error {
		var found corev1.EventList
		err := theWorld.client.List(context.Background(), &found, client.MatchingFieldsSelector{
			Selector: fields.OneTermEqualSelector("reason", reason)})
		if err == nil && !slices.ContainsFunc(found.Items, func(e corev1.Event) bool { return strings.Contains(e.Message, text) }) {
			err = fmt.Errorf("none with %q among %d", text, len(found.Items))
		}
		return err
	})
}

// report writes what a node's agent would.
func report(t *testing.T, name string, status metav1.ConditionStatus, message string) {
	t.Helper()
	eventually(t, "the agent reports", func() error {
		own, err := weftNode(name)
		if err != nil {
			return err
		}
		own.Status = v1alpha1.NodeStatus{AgentVersion: "1.2.3", Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady,
			Status: status, Reason: "Tested", Message: message, LastTransitionTime: metav1.Now()}}}
		return theWorld.client.Status().Update(context.Background(), own)
	})
}

func TestNodesGetRangesThatDoNotOverlap(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	// One is there from an older operator; its range stays.
	must(t, c.Create(ctx, &v1alpha1.WeftNode{ObjectMeta: metav1.ObjectMeta{Name: "n0"},
		Spec: v1alpha1.NodeSpec{PodCIDRs: []string{"10.244.7.0/24", "fd00:10:244:7::/64"}}}))
	report(t, "n0", metav1.ConditionTrue, "")
	createNode(t, node("n0", "192.0.2.10"))
	given := node("given", "192.0.2.99")
	given.Spec.PodCIDRs = []string{"10.244.8.0/24", "fd00:10:244:8::/64"}
	createNode(t, given)
	p := operate(t, pools).leads()
	for i := range 20 {
		createNode(t, node(fmt.Sprint("new-", i), fmt.Sprint("192.0.2.", 100+i), fmt.Sprint("2001:db8::", i+1)))
	}
	if own := ranged(t, "n0", "192.0.2.10"); own.Spec.PodCIDRs[0] != "10.244.7.0/24" || len(own.OwnerReferences) != 1 {
		t.Errorf("n0: %+v", own)
	}
	if own := ranged(t, "given", "192.0.2.99"); !slices.Equal(own.Spec.PodCIDRs, given.Spec.PodCIDRs) {
		t.Errorf("given: %+v", own.Spec)
	}
	for i := range 20 {
		ranged(t, fmt.Sprint("new-", i), fmt.Sprint("192.0.2.", 100+i), fmt.Sprint("2001:db8::", i+1))
	}
	var all v1alpha1.WeftNodeList
	must(t, c.List(ctx, &all))
	seen := map[netip.Prefix]string{}
	for _, n := range all.Items {
		for _, text := range n.Spec.PodCIDRs {
			r := netip.MustParsePrefix(text)
			if other := seen[r]; other != "" || (r.Bits() != 24 && r.Bits() != 64) {
				t.Errorf("%s of %s, and of %q", r, n.Name, other)
			}
			seen[r] = n.Name
		}
	}
	if len(seen) != 44 {
		t.Errorf("%d ranges", len(seen))
	}
	eventually(t, "metrics", func() error { return p.has(`weft_operator_pool_blocks{range="10.244.0.0/16",state="used"} 22`) })

	// What a running node has used stays, whatever the Node says; its new address is told.
	report(t, "new-3", metav1.ConditionTrue, "")
	before := ranged(t, "new-3", "192.0.2.103", "2001:db8::4")
	changed := &corev1.Node{}
	must(t, c.Get(ctx, client.ObjectKey{Name: "new-3"}, changed))
	changed.Spec.PodCIDR, changed.Spec.PodCIDRs = "10.244.200.0/24", []string{"10.244.200.0/24"}
	must(t, c.Update(ctx, changed))
	changed.Status.Addresses = node("new-3", "192.0.2.203").Status.Addresses
	must(t, c.Status().Update(ctx, changed))
	event(t, "PodCIDRConflict", "drain the node")
	event(t, "AddressesChanged", "192.0.2.203")
	if now := ranged(t, "new-3", "192.0.2.203"); !slices.Equal(now.Spec.PodCIDRs, before.Spec.PodCIDRs) {
		t.Errorf("ranges %v became %v", before.Spec.PodCIDRs, now.Spec.PodCIDRs)
	}
	// One deleted by hand comes back as it was.
	was := ranged(t, "new-4", "192.0.2.104", "2001:db8::5")
	must(t, c.Delete(ctx, was))
	if is := ranged(t, "new-4", "192.0.2.104", "2001:db8::5"); !slices.Equal(is.Spec.PodCIDRs, was.Spec.PodCIDRs) {
		t.Errorf("ranges %v became %v", was.Spec.PodCIDRs, is.Spec.PodCIDRs)
	}
}

// Who divides the ranges may do so with others than clusterCIDRs has: the node works,
// and it is told, once.
func TestARangeOutsideOfTheClusterIsTold(t *testing.T) {
	theWorld.clear(t)
	p := operate(t, "clusterCIDRs: [10.9.0.0/16, fd00:10:244::/56]\n").leads()
	given := node("outside", "192.0.2.99")
	given.Spec.PodCIDRs = []string{"10.244.8.0/24", "fd00:10:244:8::/64"}
	createNode(t, given)
	if own := ranged(t, "outside", "192.0.2.99"); !slices.Equal(own.Spec.PodCIDRs, given.Spec.PodCIDRs) {
		t.Errorf("given: %+v", own.Spec)
	}
	event(t, "PodCIDROutside", "10.244.8.0/24 is in none of clusterCIDRs [10.9.0.0/16 fd00:10:244::/56]")
	report(t, "outside", metav1.ConditionTrue, "") // the node is looked at again
	agentPod(t, "agent-1", "outside", corev1.ConditionTrue)
	eventually(t, "pods may come", func() error { return networkIs("outside", corev1.ConditionFalse, "") })
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := strings.Count(p.log.String(), "reason=PodCIDROutside") + strings.Count(p.log.String(), `"reason":"PodCIDROutside"`); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestAnExhaustedPoolIsToldAndHealed(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	p := operate(t, "clusterCIDRs: [10.9.0.0/23, fd00:9::/60]\n").leads()
	for i := range 2 {
		createNode(t, node(fmt.Sprint("full-", i), fmt.Sprint("192.0.2.", i+1)))
		ranged(t, fmt.Sprint("full-", i), fmt.Sprint("192.0.2.", i+1))
	}
	createNode(t, node("full-2", "192.0.2.3"))
	event(t, "PodCIDRsExhausted", "clusterCIDRs")
	eventually(t, "the condition says why", func() error {
		return networkIs("full-2", corev1.ConditionTrue, "add a range to clusterCIDRs")
	})
	must(t, p.has(`weft_operator_pool_blocks{range="10.9.0.0/23",state="free"} 0`))
	if own, err := weftNode("full-2"); err != nil || len(own.Spec.PodCIDRs) != 0 || len(own.Spec.Addresses) != 1 {
		t.Errorf("got %+v, %v", own, err)
	}
	must(t, c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "full-0"}}))
	// Looked at again within half a minute.
	eventually(t, "the first one's WeftNode is gone", func() error {
		if _, err := weftNode("full-0"); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	changed := &corev1.Node{}
	must(t, c.Get(ctx, client.ObjectKey{Name: "full-2"}, changed))
	changed.Status.Addresses = node("", "192.0.2.33").Status.Addresses
	must(t, c.Status().Update(ctx, changed))
	ranged(t, "full-2", "192.0.2.33")
}

func networkIs(name string, status corev1.ConditionStatus, message string) error {
	var n corev1.Node
	if err := theWorld.client.Get(context.Background(), client.ObjectKey{Name: name}, &n); err != nil {
		return err
	}
	tainted := slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == v1alpha1.TaintAgentNotReady })
	others := len(n.Status.Conditions) == 2 && slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == "example.com/other" })
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeNetworkUnavailable && cond.Status == status && strings.Contains(cond.Message, message) &&
			tainted == (status == corev1.ConditionTrue) && others {
			return nil
		}
	}
	return fmt.Errorf("taints %v, conditions %+v", n.Spec.Taints, n.Status.Conditions)
}

// agentPod makes a pod that stands for a node's agent.
func agentPod(t *testing.T, name, node string, ready corev1.ConditionStatus) {
	t.Helper()
	o := pod(system, name, map[string]string{"app.kubernetes.io/name": "weft-agent"})
	o.Spec.HostNetwork, o.Spec.NodeName = true, node
	must(t, theWorld.client.Create(context.Background(), o))
	o.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
	must(t, theWorld.client.Status().Update(context.Background(), o))
}

func TestPodsComeToANodeWhenItsAgentIsReady(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	p := operate(t, pools).leads()
	createNode(t, node("a", "192.0.2.1"))
	down := func(message string) {
		t.Helper()
		eventually(t, "kept away", func() error { return networkIs("a", corev1.ConditionTrue, message) })
	}
	up := func() error { return networkIs("a", corev1.ConditionFalse, "") }
	down("no agent runs on the node")
	ranged(t, "a", "192.0.2.1")
	report(t, "a", metav1.ConditionTrue, "") // of an agent before this one
	down("no agent runs on the node")
	agentPod(t, "agent-1", "a", corev1.ConditionFalse)
	down("the agent's pod agent-1 is not ready")
	must(t, c.Delete(ctx, pod(system, "agent-1", nil), client.GracePeriodSeconds(0)))
	report(t, "a", metav1.ConditionFalse, "the kernel is too old")
	agentPod(t, "agent-2", "a", corev1.ConditionTrue)
	down("the agent reports: the kernel is too old")
	report(t, "a", metav1.ConditionTrue, "")
	eventually(t, "pods may come", up)
	eventually(t, "metrics", func() error { return p.has(`weft_operator_nodes{ready="yes"} 1`) })
	// A new agent takes the old one's place: pods do not notice.
	must(t, c.Delete(ctx, pod(system, "agent-2", nil), client.GracePeriodSeconds(0)))
	gone := time.Now()
	throughout(t, 5*time.Second, "pods may come", up)
	agentPod(t, "agent-3", "a", corev1.ConditionTrue)
	throughout(t, time.Until(gone.Add(35*time.Second)), "pods may come", up)
	// No other comes: pods go elsewhere, after a while.
	must(t, c.Delete(ctx, pod(system, "agent-3", nil), client.GracePeriodSeconds(0)))
	gone = time.Now()
	throughout(t, 25*time.Second, "pods may come", up)
	down("no agent runs on the node")
	if took := time.Since(gone); took < 29*time.Second {
		t.Errorf("kept away after %s", took)
	}
	// The taint, taken off by hand, comes back.
	var n corev1.Node
	must(t, c.Get(ctx, client.ObjectKey{Name: "a"}, &n))
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == v1alpha1.TaintAgentNotReady })
	must(t, c.Update(ctx, &n))
	down("no agent runs on the node")
}
