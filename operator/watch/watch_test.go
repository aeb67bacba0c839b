// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

func fullPod(labels map[string]string, host bool) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "weft-system", Name: "p", UID: "u", ResourceVersion: "7", Labels: labels,
			Annotations: map[string]string{"a": "long"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}},
		Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n", HostNetwork: host,
			Containers: []corev1.Container{{Name: "c", Image: "i"}}, Volumes: []corev1.Volume{{Name: "v"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "m"}}},
	}
}

func TestOfPodsOnlyWhatIdentitiesNeedIsKept(t *testing.T) {
	labels := map[string]string{LabelName: AgentName, "x": "y"}
	small := func(labels map[string]string, account string, host bool, ready ...corev1.PodCondition) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "weft-system", Name: "p", UID: "u", ResourceVersion: "7", Labels: labels},
			Spec:   corev1.PodSpec{ServiceAccountName: account, NodeName: "n", HostNetwork: host},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: ready}}
	}
	for what, c := range map[string]struct {
		in        *corev1.Pod
		namespace string
		want      *corev1.Pod
	}{
		"a pod":           {fullPod(labels, false), "weft-system", small(labels, "sa", false)},
		"one on the host": {fullPod(map[string]string{"x": "y"}, true), "weft-system", small(nil, "", true)},
		"an agent":        {fullPod(labels, true), "weft-system", small(map[string]string{LabelName: AgentName}, "", true, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})},
		"someone else's":  {fullPod(labels, true), "other", small(nil, "", true)},
	} {
		if got := Pod(c.in, c.namespace); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", what, got, c.want)
		}
	}
}

func TestOfNodesOnlyWhatIsWrittenOrReadIsKept(t *testing.T) {
	in := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"}},
		Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24", PodCIDRs: []string{"10.0.0.0/24"}, Taints: []corev1.Taint{{Key: "k"}}},
		Status: corev1.NodeStatus{Images: []corev1.ContainerImage{{SizeBytes: 1}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady}, {Type: corev1.NodeNetworkUnavailable, Reason: "r"}}}}
	want := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "7"},
		Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.0.0/24"}, Taints: []corev1.Taint{{Key: "k"}}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Reason: "r"}}}}
	if got := Node(in); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestEveryKindHasItsTransform(t *testing.T) {
	for kind, by := range Objects("weft-system") {
		if by.Transform == nil {
			t.Errorf("%T is kept whole", kind)
		}
	}
	got, err := slice(&v1alpha1.WeftEndpointSlice{NodeName: "n", Endpoints: []v1alpha1.SliceEndpoint{
		{Namespace: "a", Name: "b", Identity: 300, Addresses: []string{"10.0.0.1"}, Workload: &v1alpha1.Workload{}}}})
	want := &v1alpha1.WeftEndpointSlice{NodeName: "n", Endpoints: []v1alpha1.SliceEndpoint{{Identity: 300, Addresses: []string{"10.0.0.1"}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}
