// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/cli/cluster"
)

// Roles that pods are selected by.
const (
	roleClient   = "client"
	roleStranger = "stranger"
	roleServer   = "server"
)

// Pod is one that takes part.
type Pod struct {
	Namespace, Name, Role string
	Node                  string
	hostname              string // of the node, as its label says
	IPs                   []netip.Addr
	Fault                 string // why it is not ready, or ""
}

func (p *Pod) key() string { return p.Namespace + "/" + p.Name }

// node is one that pods are put on.
type node struct {
	name, hostname string
	addresses      []netip.Addr
	kubelet        int32 // its port
	agentPod       string
}

// stage is all that tests play on.
type stage struct {
	cluster  *cluster.Cluster
	nodes    []node
	external string
	// The client and the near server are on the first node, the stranger and the far
	// server on the last; far is nil if there is one node only. The guest is in another
	// namespace, with the client's role.
	client, stranger, guest, near, far *Pod
	services                           map[string]*corev1.Service
	families                           []int
	apiServer                          []string // cluster addresses
}

func newStage(c *cluster.Cluster, nodes []node, external string) *stage {
	first, last := nodes[0], nodes[len(nodes)-1]
	pod := func(namespace, name, role string, n node) *Pod {
		return &Pod{Namespace: namespace, Name: name, Role: role, Node: n.name, hostname: n.hostname}
	}
	s := &stage{cluster: c, nodes: nodes, external: external, services: map[string]*corev1.Service{},
		client:   pod(namespace, "client", roleClient, first),
		stranger: pod(namespace, "stranger", roleStranger, last),
		guest:    pod(namespace2, "guest", roleClient, first),
		near:     pod(namespace, "server-near", roleServer, first)}
	if len(nodes) > 1 {
		s.far = pod(namespace, "server-far", roleServer, last)
	}
	return s
}

func (s *stage) pods() []*Pod {
	all := []*Pod{s.client, s.stranger, s.guest}
	return append(all, s.servers()...)
}

func (s *stage) servers() []*Pod {
	if s.far == nil {
		return []*Pod{s.near}
	}
	return []*Pod{s.near, s.far}
}

// build makes everything and waits until pods are ready, for as long as ctx; those
// that are not say why.
func (s *stage) build(ctx context.Context) error {
	img, err := s.image(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{namespace, namespace2} {
		if _, err := s.cluster.Kube.CoreV1().Namespaces().Create(ctx, namespaceObject(name), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making namespace %s: %w", name, err)
		}
	}
	for _, p := range s.pods() {
		if err := s.createPod(ctx, podObject(p, img)); err != nil {
			return fmt.Errorf("making pod %s: %w", p.key(), err)
		}
	}
	if err := s.createServices(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, p := range s.pods() {
		wg.Go(func() { s.waitReady(ctx, p) })
	}
	wg.Wait()
	return nil
}

// createPod tries again while the namespace lacks its service account.
func (s *stage) createPod(ctx context.Context, pod *corev1.Pod) error {
	for {
		_, err := s.cluster.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err == nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "serviceaccount") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *stage) createServices(ctx context.Context) error {
	create := func(o *corev1.Service) error {
		made, err := s.cluster.Kube.CoreV1().Services(namespace).Create(ctx, o, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("making service %s/%s: %w", namespace, o.Name, err)
		}
		s.services[o.Name] = made
		return nil
	}
	if err := errors.Join(create(serviceObject("echo", nil, false)), create(serviceObject("echo-headless", nil, true))); err != nil {
		return err
	}
	for _, f := range s.services["echo"].Spec.IPFamilies {
		number, name := 4, "echo-v4"
		if f == corev1.IPv6Protocol {
			number, name = 6, "echo-v6"
		}
		s.families = append(s.families, number)
		if err := create(serviceObject(name, []corev1.IPFamily{f}, false)); err != nil {
			return err
		}
	}
	slices.Sort(s.families)
	api, err := s.cluster.Kube.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading service default/kubernetes: %w", err)
	}
	s.apiServer = api.Spec.ClusterIPs
	return nil
}

// image of the agents that run.
func (s *stage) image(ctx context.Context) (image, error) {
	ds, err := s.cluster.Kube.AppsV1().DaemonSets(s.cluster.Namespace).Get(ctx, cluster.AgentName, metav1.GetOptions{})
	if err != nil {
		return image{}, fmt.Errorf("reading the agent's image from DaemonSet %s/%s: %w", s.cluster.Namespace, cluster.AgentName, err)
	}
	for _, c := range ds.Spec.Template.Spec.Containers {
		if c.Name == cluster.AgentContainer {
			return image{name: c.Image, pull: c.ImagePullPolicy}, nil
		}
	}
	return image{}, fmt.Errorf("DaemonSet %s/%s has no container %s", s.cluster.Namespace, cluster.AgentName, cluster.AgentContainer)
}

// waitReady waits for a pod and takes its addresses.
func (s *stage) waitReady(ctx context.Context, p *Pod) {
	for {
		pod, err := s.cluster.Kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if err == nil && podReady(pod) {
			p.Fault = ""
			for _, ip := range pod.Status.PodIPs {
				if addr, err := netip.ParseAddr(ip.IP); err == nil {
					p.IPs = append(p.IPs, addr)
				}
			}
			return
		}
		if ctx.Err() == nil {
			p.Fault = "it is not there"
			if err == nil {
				p.Fault = notReady(pod)
			}
		}
		select {
		case <-ctx.Done():
			p.Fault = s.explain(p)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func notReady(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			return strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	return "it is " + string(pod.Status.Phase)
}

// explain adds the newest warning about the pod.
func (s *stage) explain(p *Pod) string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	events, err := s.cluster.Kube.CoreV1().Events(p.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "type=Warning,involvedObject.kind=Pod,involvedObject.name=" + p.Name})
	if err != nil || len(events.Items) == 0 {
		return p.Fault
	}
	newest := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return p.Fault + "; " + newest.Reason + ": " + newest.Message
}

// clear removes what is there, of this run or another, and waits until it is gone.
func (s *stage) clear(ctx context.Context) error {
	for _, name := range []string{namespace, namespace2} {
		err := s.cluster.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting namespace %s: %w", name, err)
		}
	}
	for {
		there := ""
		for _, name := range []string{namespace, namespace2} {
			if _, err := s.cluster.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				there = name
			}
		}
		if there == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("namespace %s is still being deleted: see kubectl get namespace %s -o yaml", there, there)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// vacant refuses to touch namespaces that this test did not make.
func (s *stage) vacant(ctx context.Context) (left bool, err error) {
	for _, name := range []string{namespace, namespace2} {
		ns, err := s.cluster.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return false, fmt.Errorf("looking for namespace %s: %w", name, err)
		case ns.Labels[ownLabel] != "true":
			return false, fmt.Errorf("namespace %s is there and has no label %s: it is not of this test; remove or rename it", name, ownLabel)
		default:
			left = true
		}
	}
	return left, nil
}
