// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/operator/ranges"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

func agent(name string, ready corev1.ConditionStatus, going bool) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}}
	if going {
		p.DeletionTimestamp = &metav1.Time{}
	}
	return p
}

func reported(status metav1.ConditionStatus) *v1alpha1.WeftNode {
	return &v1alpha1.WeftNode{Status: v1alpha1.NodeStatus{Conditions: []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: status, Message: "no BTF"}}}}
}

func TestReadyNeedsTheWordOfAnAgentThatRuns(t *testing.T) {
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	for _, c := range []struct {
		node   *v1alpha1.WeftNode
		agents []corev1.Pod
		want   string // "" for ready
	}{
		{reported(metav1.ConditionTrue), nil, "no agent runs"},
		{reported(metav1.ConditionTrue), []corev1.Pod{agent("a", yes, true)}, "no agent runs"},
		{reported(metav1.ConditionTrue), []corev1.Pod{agent("a", yes, true), agent("b", no, false)}, "pod b is not ready"},
		{reported(metav1.ConditionTrue), []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "c"}}}, "pod c is not ready"},
		{&v1alpha1.WeftNode{}, []corev1.Pod{agent("a", yes, false)}, "has not yet reported"},
		{reported(metav1.ConditionFalse), []corev1.Pod{agent("a", yes, false)}, "no BTF"},
		{reported(metav1.ConditionTrue), []corev1.Pod{agent("a", no, true), agent("b", yes, false)}, ""},
	} {
		ok, why := ready(c.node, c.agents)
		if ok != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%+v: %v, %s; want %q", c, ok, why, c.want)
		}
	}
}

func nodeWith(status corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{}
	if status != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: status}}
	}
	for _, k := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: k, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

func TestPatienceIsForNodesThatWereReady(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		what  string
		node  *corev1.Node
		ready bool
		since time.Duration // ago
		taint bool
		wait  time.Duration
	}{
		{"ready", nodeWith("", v1alpha1.TaintAgentNotReady), true, 0, false, 0},
		{"new, registered without the taint", nodeWith(""), false, 0, true, 0},
		{"never ready", nodeWith(corev1.ConditionTrue, v1alpha1.TaintAgentNotReady), false, time.Hour, true, 0},
		{"taint taken off by hand", nodeWith(corev1.ConditionTrue), false, 0, true, 0},
		{"just lost", nodeWith(corev1.ConditionFalse), false, 0, false, Patience},
		{"lost a while ago", nodeWith(corev1.ConditionFalse), false, Patience - time.Second, false, time.Second},
		{"lost", nodeWith(corev1.ConditionFalse), false, Patience, true, 0},
	} {
		taint, wait := keepAway(c.node, c.ready, now.Add(-c.since), now)
		if taint != c.taint || wait != c.wait {
			t.Errorf("%s: taint %v, wait %s", c.what, taint, wait)
		}
	}
}

func TestOnlyOurTaintAndConditionChange(t *testing.T) {
	n := nodeWith(corev1.ConditionFalse, "other", v1alpha1.TaintAgentNotReady, "third")
	off, changed := withTaint(n.Spec.Taints, false)
	if !changed || !reflect.DeepEqual(off, nodeWith("", "other", "third").Spec.Taints) {
		t.Errorf("without: %v, %v", off, changed)
	}
	if again, changed := withTaint(off, false); changed || len(again) != 2 {
		t.Errorf("without, again: %v", again)
	}
	on, changed := withTaint(off, true)
	if !changed || !reflect.DeepEqual(on, nodeWith("", "other", "third", v1alpha1.TaintAgentNotReady).Spec.Taints) {
		t.Errorf("with: %v, %v", on, changed)
	}
	if _, changed := withTaint(n.Spec.Taints, true); changed {
		t.Error("the taint is there already")
	}
	n.Spec.Taints[1].Effect = corev1.TaintEffectPreferNoSchedule
	if mended, changed := withTaint(n.Spec.Taints, true); !changed || len(mended) != 3 {
		t.Errorf("another effect: %v", mended)
	}
	at := time.Unix(5, 0)
	first, changed := network(&corev1.Node{}, true, "why", at)
	if !changed || first.Reason != "WeftIsNotReady" || !first.LastTransitionTime.Time.Equal(at) {
		t.Errorf("first: %+v", first)
	}
	n.Status.Conditions = []corev1.NodeCondition{first}
	if _, changed := network(n, true, "why", at.Add(time.Hour)); changed {
		t.Error("nothing is new")
	}
	second, changed := network(n, true, "another reason", at.Add(time.Hour))
	if !changed || !second.LastTransitionTime.Time.Equal(at) {
		t.Errorf("second: %+v", second)
	}
	up, _ := network(n, false, "", at.Add(time.Hour))
	if up.Status != corev1.ConditionFalse || up.Reason != "WeftIsUp" || up.LastTransitionTime.Time.Equal(at) {
		t.Errorf("up: %+v", up)
	}
}

func own(used bool, ranges ...string) *v1alpha1.WeftNode {
	n := &v1alpha1.WeftNode{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: v1alpha1.NodeSpec{PodCIDRs: ranges}}
	if used {
		n.Status.AgentVersion = "1.2.3"
	}
	return n
}

func TestWhatARunningNodeHasStays(t *testing.T) {
	type l = []string
	for _, c := range []struct {
		what    string
		given   []string
		own     *v1alpha1.WeftNode
		want    []string
		problem string
	}{
		{"new", nil, own(false), l{"10.0.1.0/24"}, ""},
		{"new, with a range of its Node", l{"10.0.5.0/25"}, own(false), l{"10.0.5.0/25"}, ""},
		{"the Node's range is another's", l{"10.0.0.128/25"}, own(false), nil, "give the Node a range of its own"},
		{"the Node's range is none", l{"10.0.0.0"}, own(false), nil, `spec.podCIDRs of the Node: "10.0.0.0"`},
		{"has one", nil, own(false, "10.0.7.0/24"), l{"10.0.7.0/24"}, ""},
		{"has another's, and has not begun", nil, own(false, "10.0.0.0/24"), l{"10.0.1.0/24"}, ""},
		{"has another's, and runs", nil, own(true, "10.0.0.0/24"), l{"10.0.0.0/24"}, "drain one of the two"},
		{"runs, and its Node says another", l{"10.0.5.0/24"}, own(true, "10.0.7.0/24"), l{"10.0.7.0/24"}, "which stays"},
		{"has not begun, and its Node says another", l{"10.0.5.0/24"}, own(false, "10.0.7.0/24"), l{"10.0.5.0/24"}, ""},
		{"runs outside of the pool", nil, own(true, "172.16.0.0/22"), l{"172.16.0.0/22"}, ""},
		{"runs, and was edited", nil, own(true, "10.0.7.1/24"), nil, "write what the agent had before"},
	} {
		pool := ranges.New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")})
		if _, err := pool.Assign("other", nil); err != nil {
			t.Fatal(err)
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{PodCIDRs: c.given}}
		got := choose(pool, node, c.own, nil)
		if !slices.Equal(texts(got.ranges), c.want) || (got.problem == nil) != (c.problem == "") ||
			got.problem != nil && !strings.Contains(got.problem.Error(), c.problem) {
			t.Errorf("%s: %v, %v", c.what, got.ranges, got.problem)
		}
	}
}

func TestExhaustionIsNamed(t *testing.T) {
	pool := ranges.New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")})
	for i, name := range []string{"a", "b"} {
		got := choose(pool, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, &v1alpha1.WeftNode{}, nil)
		if errors.Is(got.problem, ranges.ErrExhausted) != (i == 1) {
			t.Errorf("%s: %v", name, got.problem)
		}
	}
}

func TestAddressesAreThoseOfHosts(t *testing.T) {
	n := &corev1.Node{}
	for _, a := range []string{"192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2", "fe80::1", "127.0.0.1", "x", "2001:db8::1"} {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.1"})
	if got := addresses(n); !slices.Equal(got, []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}) {
		t.Errorf("got %v", got)
	}
}
