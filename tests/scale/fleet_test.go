// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

const (
	clients   = 16  // that make objects at the same time
	labelSets = 100 // of pods, and so identities
)

// fleet is a cluster of nodes.
type fleet struct {
	nodes []*node
	seen  *arrivals
	stop  func()
}

// newFleet makes nodes on which pods are attached, and starts their agents, which end
// with the test.
func newFleet(tb testing.TB, count, pods int) *fleet {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{seen: newArrivals(), nodes: make([]*node, count)}
	must(tb, each(count, func(i int) error {
		name := fmt.Sprintf("node-%03d", i)
		if err := makeNode(ctx, name, i); err != nil {
			return err
		}
		n, err := newNode(ctx, name, f.seen)
		f.nodes[i] = n
		return err
	}))
	must(tb, each(pods, func(i int) error {
		p, err := f.schedule(ctx, i)
		if err == nil {
			_, err = p.node.tables.UpsertEndpoint(p.Endpoint)
		}
		return err
	}))
	run, ctx := errgroup.WithContext(ctx)
	for _, n := range f.nodes {
		run.Go(func() error { return n.run(ctx) })
	}
	f.stop = func() {
		cancel()
		if err := run.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			tb.Errorf("an agent has ended: %v", err)
		}
	}
	tb.Cleanup(func() { f.stop(); empty(tb) })
	for _, n := range f.nodes {
		must(tb, eventually(ctx, n.name+" is ready", n.ready))
	}
	return f
}

// each does something so many times, a few at a time.
func each(count int, do func(i int) error) error {
	var work errgroup.Group
	work.SetLimit(clients)
	for i := range count {
		work.Go(func() error { return do(i) })
	}
	return work.Wait()
}

// makeNode is what a kubelet does: the Node with its address.
func makeNode(ctx context.Context, name string, i int) error {
	obj := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := theWorld.client.Create(ctx, obj); err != nil {
		return err
	}
	with := obj.DeepCopy()
	with.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.30.%d.%d", i/250, i%250+1)}}
	return theWorld.client.Status().Patch(ctx, with, client.MergeFrom(obj)) // the operator writes too
}

// empty removes what a test has made.
func empty(tb testing.TB) {
	ctx := context.Background()
	must(tb, theWorld.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)))
	for _, o := range []client.Object{&corev1.Node{}, &v1alpha1.WeftNode{}, &v1alpha1.WeftEndpointSlice{}} {
		must(tb, eventually(ctx, "nothing is left", func() error { return theWorld.client.DeleteAllOf(ctx, o) }))
	}
}

// pod is one that runs, or is to run, on a node.
type pod struct {
	model.Endpoint
	node    *node
	arrival *arrival
}

// schedule has a pod scheduled to a node, which gives it addresses.
func (f *fleet) schedule(ctx context.Context, i int) (*pod, error) {
	n := f.nodes[i%len(f.nodes)]
	key := model.PodKey{Namespace: namespace, Name: fmt.Sprintf("frontend-7d9f8b6c5d-%05d", i)}
	obj := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{"app": fmt.Sprint("app-", i%labelSets)}},
		Spec: corev1.PodSpec{NodeName: n.name, Containers: []corev1.Container{{Name: "main", Image: "none",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}
	return &pod{Endpoint: n.place(key), node: n}, theWorld.client.Create(ctx, obj)
}

// start has a pod scheduled and attached, and follows its address.
func (f *fleet) start(ctx context.Context, i int) (*pod, error) {
	p, err := f.schedule(ctx, i)
	if err != nil {
		return nil, err
	}
	p.arrival = f.seen.expect(p.IPv4, len(f.nodes)-1)
	return p, p.node.attach(ctx, p.Endpoint)
}

// everywhere waits until all other nodes know the pod.
func (p *pod) everywhere(ctx context.Context) error {
	select {
	case <-p.arrival.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s of %s did not come to %d nodes: %w", p.Pod, p.node.name, p.arrival.left, ctx.Err())
	}
}

// end deletes the pod and takes it off its node.
func (p *pod) end(ctx context.Context) error {
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Pod.Namespace, Name: p.Pod.Name}}
	if err := theWorld.client.Delete(ctx, obj, client.GracePeriodSeconds(0)); err != nil {
		return err
	}
	_, err := p.node.tables.DeleteEndpoint(p.ID)
	return err
}

// settled waits until every kernel has exactly so many addresses of pods.
func (f *fleet) settled(ctx context.Context, pods int) error {
	for _, n := range f.nodes {
		err := eventually(ctx, n.name+" knows all pods", func() error {
			rows, err := n.dp.IPs()
			if err != nil {
				return err
			}
			got := 0
			for _, r := range rows {
				if r.Identity.IsCluster() {
					got++
				}
			}
			if got != 2*pods {
				return fmt.Errorf("it has %d addresses of pods, want %d", got, 2*pods)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// churn starts and ends pods at a rate, and tells how long each took from the kernel
// of its node to the last one.
func (f *fleet) churn(ctx context.Context, first, count int, every time.Duration) ([]time.Duration, error) {
	took := make([]time.Duration, count)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var work errgroup.Group
	for i := range count {
		<-tick.C
		work.Go(func() error {
			p, err := f.start(ctx, first+i)
			if err == nil {
				err = p.everywhere(ctx)
			}
			if err != nil {
				return err
			}
			took[i] = p.arrival.last.Sub(p.arrival.committed)
			return p.end(ctx)
		})
	}
	return took, work.Wait()
}
