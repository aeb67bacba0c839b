// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/convert"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// server is an API server of three kinds, which can be cut off.
type server struct {
	pods, policies, nodes *cachetesting.FakeControllerSource

	mu   sync.Mutex
	away map[string]error
	open []watch.Interface
}

func newServer() *server {
	return &server{pods: cachetesting.NewFakeControllerSource(), policies: cachetesting.NewFakeControllerSource(),
		nodes: cachetesting.NewFakeControllerSource(), away: map[string]error{}}
}

func (s *server) fails(kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away[kind]
}

// cut ends all watches and lets requests fail; nil: they succeed again.
func (s *server) cut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kind := range []string{"Pod", "NetworkPolicy", "WeftNode"} {
		if s.away[kind] = err; err == nil {
			delete(s.away, kind)
		}
	}
	for _, w := range s.open {
		w.Stop()
	}
	s.open = nil
}

func (s *server) kinds() []kind {
	all := kinds(&k8s.Client{}, "here")
	var out []kind
	for name, from := range map[string]*cachetesting.FakeControllerSource{"Pod": s.pods, "NetworkPolicy": s.policies, "WeftNode": s.nodes} {
		k := all[slices.IndexFunc(all, func(k kind) bool { return k.name == name })]
		k.list = func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if err := s.fails(name); err != nil {
				return nil, err
			}
			return from.List(o)
		}
		k.watch = func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if err := s.fails(name); err != nil {
				return nil, err
			}
			if o.SendInitialEvents != nil {
				return nil, errors.New("lists do not stream here")
			}
			w, err := from.Watch(o)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.open = append(s.open, w)
			return w, err
		}
		out = append(out, k)
	}
	return out
}

// sink is tables, and what was reported.
type sink struct {
	tables *state.Tables

	mu       sync.Mutex
	calls    int
	fail     error
	problems []Problem
}

func (s *sink) Apply(c state.Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		return s.fail
	}
	_, err := s.tables.Apply(c)
	return err
}

func (s *sink) Report(p []Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = p
}

func start(t *testing.T, srv *server) (*Source, *sink) {
	t.Helper()
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{tables: tables}
	src := newSource(Config{Node: "here", Log: slog.New(slog.DiscardHandler), Failed: func(string) {}}, out, srv.kinds())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the source ended: %v", err)
		}
	})
	return src, out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func pod(name, app string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: "here"}}
}

func node(name, addr string) *v1alpha1.WeftNode {
	return &v1alpha1.WeftNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{Addresses: []string{addr}}}
}

func networkPolicy(cidr string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "p"}, Spec: networkingv1.NetworkPolicySpec{
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}}}}}}
}

func (s *sink) app(name string) string {
	p, _ := s.tables.Pod(model.PodKey{Namespace: "demo", Name: name})
	return p.Labels["app"]
}

func TestNothingIsSaidBeforeEveryKindWasListed(t *testing.T) {
	srv := newServer()
	srv.away["WeftNode"] = errors.New("the server could not find the requested resource")
	srv.pods.Add(pod("web", "web"))
	src, out := start(t, srv)
	eventually(t, "pods and policies are listed", func() bool { return len(src.batch.missing()) == 1 })
	eventually(t, "why is known", func() bool { return strings.Contains(src.Waiting(), "could not find") })
	if out.calls != 0 || out.tables.Synced() || !strings.Contains(src.Waiting(), "WeftNode") {
		t.Errorf("%d calls, synced %v, waiting %q", out.calls, out.tables.Synced(), src.Waiting())
	}
	srv.cut(nil)
	eventually(t, "the first state arrives", out.tables.Synced)
	if out.app("web") != "web" || src.Waiting() != "" {
		t.Errorf("pod %q, waiting %q", out.app("web"), src.Waiting())
	}
}

func TestAnOutageChangesNothingAndIsMadeUpForByDifferences(t *testing.T) {
	srv := newServer()
	for _, name := range []string{"stays", "goes", "changes"} {
		srv.pods.Add(pod(name, "old"))
	}
	srv.nodes.Add(node("far", "192.0.2.1"))
	src, out := start(t, srv)
	eventually(t, "the first state arrives", out.tables.Synced)
	before, _ := out.tables.Snapshot()
	srv.cut(errors.New("connection refused"))
	eventually(t, "the outage is seen", func() bool { return src.Outage() != nil })
	srv.pods.DeleteDropWatch(pod("goes", "old"))
	srv.pods.ModifyDropWatch(pod("changes", "new"))
	srv.pods.AddDropWatch(pod("comes", "new"))
	if during, _ := out.tables.Snapshot(); !reflect.DeepEqual(during, before) {
		t.Errorf("the outage changed\n%+v\nto\n%+v", before, during)
	}
	srv.cut(nil)
	eventually(t, "the differences arrive", func() bool {
		return out.app("goes") == "" && out.app("changes") == "new" && out.app("comes") == "new"
	})
	eventually(t, "the outage is over", func() bool { return src.Outage() == nil })
	after, _ := out.tables.Snapshot()
	if out.app("stays") != "old" || after.Revision != before.Revision+1 || !reflect.DeepEqual(after.Nodes, before.Nodes) {
		t.Errorf("revision %d became %d, nodes %v: not one transaction of what differs", before.Revision, after.Revision, after.Nodes)
	}
}

func TestAFaultyObjectStaysAsItLastWas(t *testing.T) {
	srv := newServer()
	srv.policies.Add(networkPolicy("192.0.2.0/24"))
	srv.nodes.Add(node("far", "192.0.2.300"))
	_, out := start(t, srv)
	eventually(t, "the first state arrives", out.tables.Synced)
	reported := func(n int) func() bool {
		return func() bool { out.mu.Lock(); defer out.mu.Unlock(); return len(out.problems) == n }
	}
	eventually(t, "the node's fault", reported(1))
	srv.policies.Modify(networkPolicy("192.0.2.0/33"))
	eventually(t, "the policy's fault", reported(2))
	snap, _ := out.tables.Snapshot()
	if len(snap.Nodes) != 0 || len(snap.Policies) != 1 || snap.Policies[0].Rules[0].Peers[0].CIDR.String() != "192.0.2.0/24" {
		t.Errorf("nodes %v, policies %v", snap.Nodes, snap.Policies)
	}
	if p := out.problems[0]; !p.Kept || !strings.HasPrefix(p.String(), "NetworkPolicy demo/p: spec.ingress[0].from[0].ipBlock.cidr: ") {
		t.Errorf("the policy's problem is %+v", p)
	}
	if p := out.problems[1]; p.Kept || !strings.HasPrefix(p.String(), "WeftNode far: spec.addresses[0]: ") {
		t.Errorf("the node's problem is %+v", p)
	}
	srv.policies.Modify(networkPolicy("198.51.100.0/24"))
	srv.nodes.Delete(node("far", "192.0.2.300"))
	eventually(t, "no faults", reported(0))
	eventually(t, "the new policy", func() bool {
		snap, _ := out.tables.Snapshot()
		return snap.Policies[0].Rules[0].Peers[0].CIDR.String() == "198.51.100.0/24"
	})
}

func TestABurstIsOneTransactionAndAFailureIsMadeUpFor(t *testing.T) {
	b := newBatch(nil)
	f := newFeed(kindOf[corev1.Pod, model.Pod, *corev1.PodList]("Pod", nilClient{}, convert.Pod, putPod, nil), b)
	f.kind.gone = kinds(&k8s.Client{}, "here")[0].gone
	for _, app := range []string{"a", "b", "c"} {
		if err := f.Add(pod("web", app)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Add(pod("gone", "a")), f.Delete(pod("gone", "a"))); err != nil {
		t.Fatal(err)
	}
	c, _, n := b.take()
	if n != 2 || len(c.Put.Pods) != 1 || c.Put.Pods[0].Labels["app"] != "c" || len(c.Gone.Pods) != 1 || !c.Synced {
		t.Errorf("%d objects: %+v", n, c)
	}
	if err := f.Add(pod("web", "d")); err != nil {
		t.Fatal(err)
	}
	b.giveBack()
	if c, _, n = b.take(); n != 2 || c.Put.Pods[0].Labels["app"] != "d" || !c.Synced {
		t.Errorf("after a failure %d objects: %+v", n, c)
	}
	b.taken()
	if c, _, n = b.take(); n != 0 || c.Synced {
		t.Errorf("what was taken comes again: %d, %+v", n, c)
	}
}

// nilClient is never asked.
type nilClient struct{ client[*corev1.PodList] }

// A list that streams in is converted object by object; none is kept whole.
func TestObjectsAreConvertedAsTheyArrive(t *testing.T) {
	f := newFeed(kinds(&k8s.Client{}, "here")[0], newBatch([]string{"Pod"}))
	obj, err := f.Transformer()(pod("web", "web"))
	if err != nil {
		t.Fatal(err)
	}
	if _, whole := obj.(*corev1.Pod); whole {
		t.Error("the object was kept")
	}
	if err := f.Replace([]any{obj}, "1"); err != nil {
		t.Fatal(err)
	}
	if c, _, n := f.batch.take(); n != 1 || c.Put.Pods[0].Name != "web" {
		t.Errorf("got %+v", c)
	}
}
