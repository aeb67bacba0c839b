// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"
)

const namespace = "weft-system"

// cluster is an API server with two nodes that answer and one that does not, on all
// of which Weft is.
type cluster struct {
	t      *testing.T
	client *fake.FakeDynamicClient
	// phase is what becomes of a pod that cleans a node.
	phase func(node string) corev1.PodStatus
	// stays is a DaemonSet whose pods do not end when it is deleted.
	stays   string
	cleaned []string // nodes on which the pod was created
	early   []string // of these, before agents and Envoys had ended
}

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

func pods() schema.GroupVersionResource { return gvr("", "v1", "pods") }

const objects = `
{apiVersion: apps/v1, kind: Deployment, metadata: {name: weft-operator, namespace: weft-system}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: weft-operator, namespace: weft-system}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: weft-agent, namespace: weft-system}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: weft-envoy, namespace: weft-system}}
---
{apiVersion: v1, kind: Pod, metadata: {name: weft-envoy-1, namespace: weft-system, labels: {app.kubernetes.io/name: weft-envoy}}, spec: {nodeName: n1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: weft-agent-1, namespace: weft-system, labels: {app.kubernetes.io/name: weft-agent}}, spec: {nodeName: n1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: weft-agent-3, namespace: weft-system, labels: {app.kubernetes.io/name: weft-agent}}, spec: {nodeName: n3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: weft-system, labels: {app.kubernetes.io/name: other}}, spec: {nodeName: n1}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/os: linux}}
spec: {taints: [{key: weftmesh.io/agent-not-ready, effect: NoSchedule}, {key: other, effect: NoSchedule}]}
status:
  conditions: [{type: Ready, status: "True"}, {type: NetworkUnavailable, status: "True", reason: WeftIsNotReady}]
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {kubernetes.io/os: linux}}
status:
  conditions: [{type: NetworkUnavailable, status: "False", reason: RouteCreated}, {type: Ready, status: "False"}]
---
apiVersion: v1
kind: Node
metadata: {name: n3, labels: {kubernetes.io/os: linux}}
spec: {taints: [{key: weftmesh.io/agent-not-ready, effect: NoSchedule}]}
status:
  conditions: [{type: Ready, status: Unknown}]
---
{apiVersion: v1, kind: Node, metadata: {name: w1, labels: {kubernetes.io/os: windows}}, status: {conditions: [{type: Ready, status: "True"}]}}
---
{apiVersion: weftmesh.io/v1alpha1, kind: WeftNode, metadata: {name: n1}}
---
{apiVersion: weftmesh.io/v1alpha1, kind: WeftIdentity, metadata: {name: "256"}}
---
{apiVersion: weftmesh.io/v1alpha1, kind: WeftEndpointSlice, metadata: {name: n1-a}, nodeName: n1}
---
{apiVersion: weftmesh.io/v1alpha1, kind: WeftNetworkPolicy, metadata: {name: p, namespace: default}}
`

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, phase: func(string) corev1.PodStatus { return corev1.PodStatus{Phase: corev1.PodSucceeded} }}
	var all []runtime.Object
	for _, doc := range strings.Split(objects, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	const group, version = "weftmesh.io", "v1alpha1"
	c.client = fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		pods(): "PodList", gvr("", "v1", "nodes"): "NodeList",
		gvr("coordination.k8s.io", "v1", "leases"): "LeaseList",
		gvr("apps", "v1", "deployments"):           "DeploymentList", gvr("apps", "v1", "daemonsets"): "DaemonSetList",
		gvr(group, version, "weftnodes"): "WeftNodeList", gvr(group, version, "weftidentities"): "WeftIdentityList",
		gvr(group, version, "weftendpointslices"):  "WeftEndpointSliceList",
		gvr(group, version, "weftnetworkpolicies"): "WeftNetworkPolicyList",
	}, all...)
	c.client.PrependReactor("delete", "daemonsets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		name := a.(clienttesting.DeleteAction).GetName()
		if c.stays == name {
			return false, nil, nil
		}
		err := c.client.Tracker().Delete(pods(), namespace, name+"-1")
		if apierrors.IsNotFound(err) {
			err = nil // they had ended
		}
		return false, nil, err
	})
	c.client.PrependReactor("create", "pods", c.runPod)
	c.client.PrependReactor("delete-collection", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		objects := map[string]string{"weftnodes": "n1", "weftidentities": "256", "weftendpointslices": "n1-a"}
		err := c.client.Tracker().Delete(a.GetResource(), "", objects[a.GetResource().Resource])
		if apierrors.IsNotFound(err) {
			err = nil // a collection may be empty
		}
		return true, nil, err
	})
	return c
}

// runPod is the kubelet: it runs a pod to its end before create answers.
func (c *cluster) runPod(a clienttesting.Action) (bool, runtime.Object, error) {
	o := a.(clienttesting.CreateAction).GetObject().(*unstructured.Unstructured)
	node, _, _ := unstructured.NestedString(o.Object, "spec", "nodeName")
	c.cleaned = append(c.cleaned, node)
	for _, name := range []string{"weft-agent-1", "weft-envoy-1"} {
		if _, err := c.client.Tracker().Get(pods(), namespace, name); err == nil {
			c.early = append(c.early, node)
		}
	}
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(new(c.phase(node)))
	if err != nil {
		return true, nil, err
	}
	o.Object["status"] = status
	return false, nil, nil
}

func (c *cluster) run() error {
	c.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 300*time.Millisecond, errors.New("time is up"))
	defer cancel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "cleanup", Image: "i"}}}}
	return New(Config{Client: c.client, Namespace: namespace, Pod: pod, Every: time.Millisecond,
		Log: slog.New(slog.DiscardHandler)}).Run(ctx)
}

// names lists what is there of a kind.
func (c *cluster) names(r schema.GroupVersionResource) (out []string) {
	c.t.Helper()
	list, err := c.client.Resource(r).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range list.Items {
		out = append(out, o.GetName())
	}
	slices.Sort(out)
	return out
}

func (c *cluster) node(name string) *corev1.Node {
	c.t.Helper()
	o, err := c.client.Resource(gvr("", "v1", "nodes")).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := typed[corev1.Node](&unstructured.UnstructuredList{Items: []unstructured.Unstructured{*o}})
	if err != nil {
		c.t.Fatal(err)
	}
	return n[0]
}

func (c *cluster) equal(what string, got, want []string) {
	c.t.Helper()
	if !slices.Equal(got, want) {
		c.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestNothingOfWeftIsLeft(t *testing.T) {
	c := newCluster(t)
	for range 2 { // the second time there is nothing to do
		if err := c.run(); err != nil {
			t.Fatal(err)
		}
	}
	c.equal("cleaned", c.cleaned, []string{"n1", "n2", "n1", "n2"})
	c.equal("cleaned while agents or Envoys ran", c.early, nil)
	c.equal("pods", c.names(pods()), []string{"other", "weft-agent-3"})
	for _, resource := range []string{"weftnodes", "weftidentities", "weftendpointslices"} {
		c.equal(resource, c.names(gvr("weftmesh.io", "v1alpha1", resource)), nil)
	}
	c.equal("policies", c.names(gvr("weftmesh.io", "v1alpha1", "weftnetworkpolicies")), []string{"p"})
	c.equal("daemonsets", c.names(gvr("apps", "v1", "daemonsets")), nil)
	c.equal("leases", c.names(gvr("coordination.k8s.io", "v1", "leases")), nil)
	c.equal("deployments", c.names(gvr("apps", "v1", "deployments")), nil)

	n1 := c.node("n1")
	if len(n1.Spec.Taints) != 1 || n1.Spec.Taints[0].Key != "other" {
		t.Errorf("taints of n1: %v", n1.Spec.Taints)
	}
	if len(n1.Status.Conditions) != 1 || n1.Status.Conditions[0].Type != corev1.NodeReady {
		t.Errorf("conditions of n1: %v", n1.Status.Conditions)
	}
	if got := c.node("n2").Status.Conditions; len(got) != 2 {
		t.Errorf("conditions of n2, not ours: %v", got)
	}
	if got := c.node("n3").Spec.Taints; len(got) != 0 {
		t.Errorf("taints of n3: %v", got)
	}
}

func TestNodeThatIsNotCleanIsNamed(t *testing.T) {
	c := newCluster(t)
	good := c.phase
	c.phase = func(node string) corev1.PodStatus {
		if node == "n1" {
			return good(node)
		}
		return corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "weft-agent: removing BPF pins: no space\n"}}}}}
	}
	err := c.run()
	if want := "node n2 is not clean: Error weft-agent: removing BPF pins: no space"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if len(c.node("n1").Spec.Taints) != 2 || len(c.names(gvr("weftmesh.io", "v1alpha1", "weftidentities"))) != 1 {
		t.Error("it went on after the failure")
	}
	c.phase = good
	if err := c.run(); err != nil {
		t.Errorf("once more, when the fault is mended: %v", err)
	}
	c.equal("pods", c.names(pods()), []string{"other", "weft-agent-3"})
}

func TestWhatTakesTooLongIsNamed(t *testing.T) {
	for _, name := range []string{"weft-agent", "weft-envoy"} {
		c := newCluster(t)
		c.stays = name
		if err := c.run(); err == nil || err.Error() != "time is up while waiting for "+name+"-1 on n1" {
			t.Errorf("a pod of %s that does not end: %v", name, err)
		}
		c.equal("cleaned", c.cleaned, nil)
	}

	c := newCluster(t)
	c.phase = func(string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}}}}
	}
	if err := c.run(); err == nil || !strings.Contains(err.Error(), "node n2 (ErrImagePull no such image)") {
		t.Errorf("an image that cannot be had: %v", err)
	}
}
