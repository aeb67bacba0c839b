// SPDX-License-Identifier: Apache-2.0

// Package cluster finds the agents of a Kubernetes cluster through its API server
// and speaks to each by a command run in its pod: no port of an agent is open.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/pkg/agentsock"
)

// Names of what the chart installs.
const (
	DefaultNamespace = "weft-system"
	AgentName        = "weft-agent"
	OperatorName     = "weft-operator"
	AgentContainer   = "agent"
	agentSelector    = "app.kubernetes.io/name=" + AgentName
)

// Options say which cluster.
type Options struct {
	Kubeconfig string // file; empty: KUBECONFIG, ~/.kube/config, or the pod's service account
	Context    string // empty: the current one
	Namespace  string // of Weft
}

// Cluster is a Kubernetes cluster that Weft runs in.
type Cluster struct {
	Kube      kubernetes.Interface
	Dynamic   dynamic.Interface
	Executor  Executor
	Namespace string
	Name      string // for people: the context
}

// ErrNoConfig: nothing says where a cluster is.
var ErrNoConfig = errors.New("no kubeconfig was found")

// ErrNoAgents: the cluster has none.
var ErrNoAgents = errors.New("no pod of Weft's agent is on a node")

// Open reads the kubeconfig; it does not speak to the API server.
func Open(o Options) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	rules.WarnIfAllMissing = false
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	name := cmp.Or(o.Context, "the pod's own")
	if raw, err := loader.RawConfig(); err == nil && o.Context == "" && raw.CurrentContext != "" {
		name = raw.CurrentContext
	}
	return New(config, o.Namespace, name)
}

// New makes a cluster of a way to its API server.
func New(config *rest.Config, namespace, name string) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200 // one command for a person, not a controller
	config.WarningHandlerWithContext = rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("using the kubeconfig: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("using the kubeconfig: %w", err)
	}
	return &Cluster{Kube: kube, Dynamic: dyn, Namespace: namespace, Name: name,
		Executor: apiExecutor{config: config, core: kube.CoreV1().RESTClient()}}, nil
}

// Agents lists the agents of the nodes that are named, or of all, by node.
func (c *Cluster) Agents(ctx context.Context, nodes []string) ([]*client.Agent, error) {
	pods, err := c.AgentPods(ctx)
	if err != nil {
		return nil, err
	}
	var agents []*client.Agent
	for node, pod := range pods {
		if len(nodes) == 0 || slices.Contains(nodes, node) {
			agents = append(agents, c.agent(node, pod))
		}
	}
	for _, node := range nodes {
		if pods[node] == nil {
			return nil, c.missing(ctx, node, pods)
		}
	}
	if len(agents) == 0 {
		return nil, fmt.Errorf("%w in namespace %s of cluster %s; is Weft installed there? Another namespace is named with --weft-namespace",
			ErrNoAgents, c.Namespace, c.Name)
	}
	slices.SortFunc(agents, func(a, b *client.Agent) int { return cmp.Compare(a.Node, b.Node) })
	return agents, nil
}

// missing says why a node that was named has no agent.
func (c *Cluster) missing(ctx context.Context, node string, pods map[string]*corev1.Pod) error {
	var names []string
	for name := range pods {
		names = append(names, name)
	}
	slices.Sort(names)
	if _, err := c.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); err == nil {
		return fmt.Errorf("node %s has no pod of Weft's agent in namespace %s; the nodes that have one: %s",
			node, c.Namespace, strings.Join(names, ", "))
	}
	return fmt.Errorf("no node %s is known; the nodes with an agent: %s", node, strings.Join(names, ", "))
}

// AgentPods gives each node's newest pod of the agent that is not ending, or one
// that is ending if there is no other.
func (c *Cluster) AgentPods(ctx context.Context) (map[string]*corev1.Pod, error) {
	return c.agentPods(ctx, metav1.ListOptions{LabelSelector: agentSelector})
}

func (c *Cluster) agentPods(ctx context.Context, o metav1.ListOptions) (map[string]*corev1.Pod, error) {
	list, err := c.Kube.CoreV1().Pods(c.Namespace).List(ctx, o)
	if err != nil {
		return nil, c.failed("listing the pods of Weft's agent in namespace "+c.Namespace, err)
	}
	pods := make(map[string]*corev1.Pod)
	for i := range list.Items {
		pod := &list.Items[i]
		node := pod.Spec.NodeName
		if node != "" && (pods[node] == nil || newer(pod, pods[node])) {
			pods[node] = pod
		}
	}
	return pods, nil
}

// failed tells an API server that is away from one that refuses.
func (c *Cluster) failed(doing string, err error) error {
	var transport *url.Error
	if !errors.As(err, &transport) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &client.UnreachableError{What: "the API server of cluster " + c.Name, Where: transport.URL, Cause: transport.Err,
		Remedy: "Is the cluster up, and does the kubeconfig name its address? Another one is chosen with --kubeconfig or --context."}
}

func newer(a, b *corev1.Pod) bool {
	if (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) {
		return a.DeletionTimestamp == nil
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

// agent connects to the pod at first, and looks for the node's present pod when it
// connects again.
func (c *Cluster) agent(node string, pod *corev1.Pod) *client.Agent {
	a := &client.Agent{Node: node, Where: where(node, pod)}
	var once sync.Once
	a.Dial = func(ctx context.Context) (*client.Client, error) {
		current := pod
		known := false
		once.Do(func() { known = true })
		if !known {
			pods, err := c.agentPods(ctx, metav1.ListOptions{LabelSelector: agentSelector, FieldSelector: "spec.nodeName=" + node})
			if err != nil {
				return nil, err
			}
			if current = pods[node]; current == nil {
				return nil, c.unreachable("node "+node, errors.New("it has no pod of the agent"))
			}
		}
		return c.dial(node, current)
	}
	return a
}

func where(node string, pod *corev1.Pod) string {
	return fmt.Sprintf("node %s, pod %s/%s", node, pod.Namespace, pod.Name)
}

func (c *Cluster) dial(node string, pod *corev1.Pod) (*client.Client, error) {
	at := where(node, pod)
	if why := notRunning(pod); why != "" {
		return nil, c.unreachable(at, errors.New(why))
	}
	var mu sync.Mutex
	var last *stream
	conn, err := agentsock.Over(func(context.Context) (net.Conn, error) {
		s := connect(c.Executor, Pod{Namespace: pod.Namespace, Name: pod.Name, Container: AgentContainer}, "weft", "dial-stdio")
		mu.Lock()
		last = s
		mu.Unlock()
		return s, nil
	})
	if err != nil {
		return nil, c.unreachable(at, err)
	}
	return client.New(conn, func(err error) error {
		mu.Lock()
		defer mu.Unlock()
		if last != nil && last.Fault() != nil {
			err = last.Fault() // what ended the stream, rather than what gRPC saw of it
		}
		return c.unreachable(at, err)
	}), nil
}

func (c *Cluster) unreachable(at string, cause error) error {
	return &client.UnreachableError{Where: at, Cause: cause,
		Remedy: fmt.Sprintf("See kubectl -n %s get pods -l %s -o wide, and the pod's log.", c.Namespace, agentSelector)}
}

// notRunning says why nothing can be run in the agent's container, or "".
func notRunning(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name != AgentContainer {
			continue
		}
		switch {
		case s.State.Running != nil:
			return ""
		case s.State.Waiting != nil:
			return join("its container waits: "+s.State.Waiting.Reason, s.State.Waiting.Message)
		case s.State.Terminated != nil:
			return join(fmt.Sprintf("its container ended with status %d: %s", s.State.Terminated.ExitCode, s.State.Terminated.Reason), s.State.Terminated.Message)
		}
	}
	return join("the pod is "+string(cmp.Or(pod.Status.Phase, corev1.PodPending)), pod.Status.Message)
}

func join(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}
