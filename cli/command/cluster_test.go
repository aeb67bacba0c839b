// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/remotecommand"

	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/cli/cluster"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// world is a cluster whose API server is an object tracker, and in whose pods
// commands run in this process, with agents on real sockets.
type world struct {
	kube    *fake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	mu      sync.Mutex
	sockets map[string]string // by pod of an agent
	stops   map[string]func() // end the agent of a pod
}

// Exec runs weft itself, as it would in the pod.
func (w *world) Exec(ctx context.Context, pod cluster.Pod, command []string, s remotecommand.StreamOptions) error {
	w.mu.Lock()
	socket, ok := w.sockets[pod.Name]
	w.mu.Unlock()
	if !ok || pod.Container != "agent" {
		return errors.New("pods \"" + pod.Name + "\" not found")
	}
	env := Env{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Now: now, Location: time.UTC, Version: "1.2.3",
		Getenv: func(name string) string { return map[string]string{"WEFT_SOCKET": socket}[name] }}
	if code := Run(ctx, env, command[1:]); code != ExitOK {
		return errors.New("command terminated with exit code " + string(rune('0'+code)))
	}
	return nil
}

func (w *world) open(o cluster.Options) (*cluster.Cluster, error) {
	return &cluster.Cluster{Kube: w.kube, Dynamic: w.dynamic, Executor: w, Namespace: o.Namespace, Name: "test"}, nil
}

// newWorld has two nodes with the agents given, all of it well.
func newWorld(t *testing.T, agents ...agentv1.AgentServiceServer) *world {
	t.Helper()
	w := &world{sockets: map[string]string{}, stops: map[string]func(){}}
	two, holder, seconds := int32(2), "weft-operator-abc_5f3c", int32(15)
	renewed := metav1.NewMicroTime(now().Add(-2 * time.Second))
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "weft-system", Name: name} }
	objects := []runtime.Object{
		&appsv1.DaemonSet{ObjectMeta: meta("weft-agent"), Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 2}},
		&appsv1.Deployment{ObjectMeta: meta("weft-operator"), Spec: appsv1.DeploymentSpec{Replicas: &two},
			Status: appsv1.DeploymentStatus{UpdatedReplicas: 2, ReadyReplicas: 2}},
		&coordinationv1.Lease{ObjectMeta: meta("weft-operator"),
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &renewed, LeaseDurationSeconds: &seconds}},
	}
	var custom []runtime.Object
	for i, a := range agents {
		node := "worker-" + string(rune('1'+i))
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, agentPod("weft-agent-"+node, node))
		custom = append(custom, weftNode(node, "True", "the datapath works"))
		socket := filepath.Join(t.TempDir(), "agent.sock")
		w.sockets["weft-agent-"+node], w.stops["weft-agent-"+node] = socket, serveAt(t, socket, a)
	}
	w.kube = fake.NewClientset(objects...)
	w.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		{Group: "weftmesh.io", Version: "v1alpha1", Resource: "weftnodes"}:          "WeftNodeList",
		{Group: "weftmesh.io", Version: "v1alpha1", Resource: "weftidentities"}:     "WeftIdentityList",
		{Group: "weftmesh.io", Version: "v1alpha1", Resource: "weftendpointslices"}: "WeftEndpointSliceList",
	}, custom...)
	return w
}

func agentPod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "weft-system", Name: name, Labels: map[string]string{"app.kubernetes.io/name": "weft-agent"}},
		Spec:       corev1.PodSpec{NodeName: node, HostNetwork: true},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}
}

func weftNode(name, ready, message string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "weftmesh.io/v1alpha1", "kind": "WeftNode", "metadata": map[string]any{"name": name},
		"status": map[string]any{"agentVersion": "1.2.3", "conditions": []any{
			map[string]any{"type": "Ready", "status": ready, "message": message, "reason": "Proven", "lastTransitionTime": "2026-11-22T12:00:00Z"}}},
	}}
}

// runCluster is run against a cluster.
func (w *world) run(t *testing.T, args ...string) result {
	t.Helper()
	return runIn(t, t.Context(), Env{OpenCluster: w.open}, "", append([]string{"--context", "test"}, args...)...)
}

func (w *world) follow(t *testing.T, args ...string) *following {
	t.Helper()
	return startFollowingIn(t, Env{OpenCluster: w.open}, "", append([]string{"--context", "test"}, args...)...)
}

// replace ends a pod of an agent and puts another in its place.
func (w *world) replace(t *testing.T, old, pod, node, socket string) {
	t.Helper()
	pods := w.kube.CoreV1().Pods("weft-system")
	if err := pods.Delete(t.Context(), old, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Create(t.Context(), agentPod(pod, node), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	delete(w.sockets, old)
	w.sockets[pod] = socket
	w.mu.Unlock()
	w.stops[old]()
}

// on is an agent's status with another node and revision.
func on(node string, realized uint64) *agentv1.GetStatusResponse {
	s := proto.Clone(wellStatus()).(*agentv1.GetStatusResponse)
	s.Node, s.RealizedRevision = node, realized
	return s
}

func TestClusterTables(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13), flows: story()[:4]}, &agent{status: on("worker-2", 12), flows: story()[2:]})
	for file, args := range map[string]string{
		"cluster-status.txt":         "status",
		"cluster-status.json":        "status -o json",
		"cluster-endpoints.txt":      "endpoint list",
		"cluster-endpoints-node.txt": "endpoint list --node worker-2",
		"cluster-endpoints.json":     "endpoint list -o json",
		"cluster-identities.txt":     "identity list",
		"cluster-policies.txt":       "policy list --entries",
		"cluster-services.txt":       "service list",
		"cluster-service.txt":        "service describe demo/backend",
		"cluster-observe.txt":        "observe",
		"cluster-observe-table.txt":  "observe --last 3 -o table",
		"cluster-version.txt":        "version",
	} {
		got := w.run(t, strings.Fields(args)...)
		if got.code != ExitOK || got.stderr != "" {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
		golden(t, "testdata/"+file, got.stdout)
	}
}

func TestAnAgentThatDoesNotAnswerIsNamed(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13)}, &agent{status: on("worker-2", 13)})
	delete(w.sockets, "weft-agent-worker-2")
	for _, args := range []string{"status", "endpoint list", "observe", "status -o json"} {
		got := w.run(t, strings.Fields(args)...)
		if got.code != ExitError || !strings.Contains(got.stderr, `cannot be reached at node worker-2, pod weft-system/weft-agent-worker-2: pods "weft-agent-worker-2" not found`) {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
	}
	w.sockets["weft-agent-worker-2"] = "/nonexistent/agent.sock" // the agent's container runs, and the agent does not listen
	got := w.run(t, "endpoint", "list", "--node", "worker-2")
	if got.code != ExitUnreachable || !strings.Contains(got.stderr, "worker-2: the agent cannot be reached at /nonexistent/agent.sock: no such file") ||
		!strings.Contains(got.stderr, "kubectl -n weft-system get pods") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

// Pods that another CNI plugin attached, or an installation that was removed, run on
// with no network of Weft.
func TestPodsWithoutWeftAreNamed(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13)})
	add := func(name string, change func(*corev1.Pod)) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name}, Spec: corev1.PodSpec{NodeName: "worker-1"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		change(p)
		if _, err := w.kube.CoreV1().Pods("demo").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"attached", "old-1", "old-2", "old-3", "old-4"} {
		add(name, func(*corev1.Pod) {})
	}
	add("starting", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })
	add("of-the-host", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	add("ending", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now()} })
	add("elsewhere", func(p *corev1.Pod) { p.Spec.NodeName = "worker-9" })
	slice := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "weftmesh.io/v1alpha1", "kind": "WeftEndpointSlice", "metadata": map[string]any{"name": "worker-1-0"}, "nodeName": "worker-1",
		"endpoints": []any{map[string]any{"namespace": "demo", "name": "attached", "identity": int64(300), "addresses": []any{"10.0.0.2"}}}}}
	slices := schema.GroupVersionResource{Group: "weftmesh.io", Version: "v1alpha1", Resource: "weftendpointslices"}
	if _, err := w.dynamic.Resource(slices).Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const want = "pods that began before Weft and have no network of it: demo/old-1, demo/old-2, demo/old-3 and 1 more; delete them, so that they are made anew"
	got := w.run(t, "status")
	if got.code != ExitOK || !strings.Contains(got.stdout, want) || strings.Contains(got.stdout, "demo/attached") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestNodesThatAreNotThere(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13)})
	if got := w.run(t, "endpoint", "list", "--node", "worker-9"); got.code != ExitError || !strings.Contains(got.stderr, "no node worker-9 is known; the nodes with an agent: worker-1") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if got := w.run(t, "endpoint", "list", "--weft-namespace", "elsewhere"); got.code != ExitUnreachable || !strings.Contains(got.stderr, "in namespace elsewhere of cluster test; is Weft installed there?") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestWhichAgentsAreAsked(t *testing.T) {
	socket := serve(t, &agent{status: wellStatus()})
	environment := func(name string) string { return map[string]string{"WEFT_SOCKET": socket}[name] }
	w := newWorld(t, &agent{status: on("worker-1", 13)})
	for args, want := range map[string]string{
		"status":                             "on host-1",
		"status --context c":                 "in cluster test",
		"status --node worker-1":             "in cluster test",
		"status --socket /nonexistent/other": "",
	} {
		got := runIn(t, t.Context(), Env{OpenCluster: w.open, Getenv: environment}, "", strings.Fields(args)...)
		if !strings.Contains(got.stdout, want) || (want == "") != (got.code == ExitUnreachable) {
			t.Errorf("%s: exit %d: %s%s", args, got.code, got.stdout, got.stderr)
		}
	}
	got := run(t, socket, "status", "--node", "worker-1")
	if got.code != ExitUsage || !strings.Contains(got.stderr, "give one of the two") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestNeitherSocketNorKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	got := run(t, "", "endpoint", "list", "--context", "")
	if got.code != ExitUnreachable || !strings.Contains(got.stderr, "no kubeconfig was found") || !strings.Contains(got.stderr, "--kubeconfig or KUBECONFIG") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if got := run(t, "", "status", "--wait", "--timeout", "300ms"); got.code != ExitUnreachable || strings.Contains(got.stderr, "kubeconfig was found") {
		t.Errorf("an agent that is yet to start here is not waited for: exit %d: %s", got.code, got.stderr)
	}
	if got := run(t, "", "status", "--kubeconfig", "/nonexistent/config"); got.code != ExitError || !strings.Contains(got.stderr, "/nonexistent/config: no such file") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestClusterStatusJSONReadsBack(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13)}, &agent{status: on("worker-2", 13)})
	delete(w.sockets, "weft-agent-worker-1")
	var whole struct {
		Cluster cluster.State `json:"cluster"`
		Nodes   []struct {
			Node, Error      string
			RealizedRevision string
		}
	}
	if err := json.Unmarshal([]byte(w.run(t, "status", "-o", "json").stdout), &whole); err != nil {
		t.Fatal(err)
	}
	if n := whole.Nodes; len(n) != 2 || n[0].Error == "" || n[1].RealizedRevision != "13" || whole.Cluster.Leader.Name != "weft-operator-abc_5f3c" {
		t.Errorf("%+v", whole)
	}
}

func TestWaitForACluster(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13)}, &agent{status: on("worker-2", 13)})
	if got := w.run(t, "status", "--wait"); got.code != ExitOK || got.stderr != "" {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	nodes := w.dynamic.Resource(schema.GroupVersionResource{Group: "weftmesh.io", Version: "v1alpha1", Resource: "weftnodes"})
	if _, err := nodes.Update(t.Context(), weftNode("worker-2", "False", "its datapath is not proven"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	got := w.run(t, "status", "--wait", "--timeout", "700ms")
	if got.code != ExitTimeout || !strings.Contains(got.stderr, "waiting for: node worker-2: its datapath is not proven") ||
		!strings.Contains(got.stderr, "after 700ms Weft is not ready") || !strings.Contains(got.stdout, "1 of 2 ready") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	r, stderr := io.Pipe()
	done := make(chan result, 1)
	go func() {
		done <- runIn(t, t.Context(), Env{OpenCluster: w.open, Stderr: stderr}, "", "--context", "test", "status", "--wait", "--timeout", "20s")
		stderr.Close()
	}()
	if line := make([]byte, 200); true {
		n, err := r.Read(line)
		if err != nil || !strings.Contains(string(line[:n]), "waiting for: node worker-2") {
			t.Fatalf("%s, %v", line, err)
		}
	}
	if _, err := nodes.Update(t.Context(), weftNode("worker-2", "True", ""), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.code != ExitOK || !strings.Contains(got.stdout, "2 of 2 ready") {
		t.Errorf("exit %d: %s", got.code, got.stdout)
	}
}

func TestWhatAWaitWaitsFor(t *testing.T) {
	s := &cluster.State{Namespace: "weft-system", Agents: &cluster.Workload{Desired: 2, Updated: 1, Ready: 2},
		Nodes: []cluster.Node{{Name: "a", Ready: true}, {Name: "b", Message: "no word"}}}
	want := "DaemonSet weft-agent: 2 of 2 pods are ready, 1 of the newest template\n" +
		"Deployment weft-system/weft-operator is not there\nnode b: no word"
	if got := strings.Join(s.Missing(), "\n"); got != want {
		t.Errorf("got\n%s", got)
	}
	s.Agents, s.Operator = &cluster.Workload{Rolled: true}, &cluster.Workload{Rolled: true}
	s.Nodes, s.Leader = nil, &cluster.Leader{Name: "x", Expired: true}
	if got := strings.Join(s.Missing(), "\n"); got != "no operator leads: x held Lease weft-operator last" {
		t.Errorf("got\n%s", got)
	}
}

func TestAWaitForAClusterLeavesTimeToPullImages(t *testing.T) {
	a := &app{}
	for args, want := range map[string]time.Duration{"": installIn, "--timeout=3s": 3 * time.Second} {
		c := a.root()
		if err := c.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if got := a.patience(c, true); got != want {
			t.Errorf("%q: waits %v, not %v", args, got, want)
		}
		if got := a.patience(c, false); got != 0 {
			t.Errorf("%q: waits %v without --wait", args, got)
		}
	}
}
