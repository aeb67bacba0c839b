// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/gentype"
	clienttesting "k8s.io/client-go/testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
)

func endpoint(i int, id model.IdentityID) model.NodeEndpoint {
	return model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprintf("pod-%03d", i)}, Identity: id,
		IPv4: netip.AddrFrom4([4]byte{10, 244, byte(i / 250), byte(i%250 + 1)})}
}

// Whatever comes and goes: every pod is told once, no slice is too large, and a
// change of one pod concerns one slice.
func TestAssignMovesNoPodThatStays(t *testing.T) {
	for _, most := range []room{{endpoints: 8, bytes: 10_000}, {endpoints: 100, bytes: 400}} {
		random := rand.New(rand.NewPCG(1, 2))
		now, there := parts{}, map[int]model.IdentityID{}
		for range 400 {
			switch i := random.IntN(200); random.IntN(3) {
			case 0:
				delete(there, i)
			default:
				there[i] = 256 + model.IdentityID(random.IntN(9))
			}
			var pods []model.NodeEndpoint
			for i, id := range there {
				pods = append(pods, endpoint(i, id))
			}
			next := assign("n", now, pods, most)
			if write, remove := differ(now, next); len(write)+len(remove) > 1 {
				t.Fatalf("one change writes %v and removes %v", write, remove)
			}
			if told := checkParts(t, next, most); told != len(there) {
				t.Fatalf("%d endpoints of %d are told", told, len(there))
			}
			now = next
		}
	}
}

// checkParts counts the endpoints of slices, none of which is too large.
func checkParts(t *testing.T, all parts, most room) (told int) {
	t.Helper()
	for name, eps := range all {
		bytes := 0
		for _, e := range eps {
			bytes += k8s.EndpointBytes(e)
		}
		if len(eps) == 0 || len(eps) > most.endpoints || bytes > most.bytes || !strings.HasPrefix(name, "n-") {
			t.Fatalf("slice %s has %d endpoints of %d bytes", name, len(eps), bytes)
		}
		told += len(eps)
	}
	return told
}

// One that is longer than a slice has room for is told all the same, alone.
func TestAnEndpointThatFitsNowhereIsAlone(t *testing.T) {
	next := assign("n", parts{}, []model.NodeEndpoint{endpoint(1, 256), endpoint(2, 256)}, room{endpoints: 8, bytes: 10})
	if len(next) != 2 || len(next["n-0"]) != 1 || len(next["n-1"]) != 1 {
		t.Errorf("slices are %v", next)
	}
}

// apiServer is one of a client library, with a node.
type apiServer struct {
	*clienttesting.Fake
	tracker clienttesting.ObjectTracker
	slices  *gentype.FakeClientWithList[*v1alpha1.WeftEndpointSlice, *v1alpha1.WeftEndpointSliceList]
	nodes   *gentype.FakeClientWithList[*v1alpha1.WeftNode, *v1alpha1.WeftNodeList]
	fail    error
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	scheme, err := k8s.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	codec := clienttesting.NewObjectTracker(scheme, decoder{})
	s := &apiServer{Fake: &clienttesting.Fake{}, tracker: codec}
	s.AddReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return s.fail != nil, nil, s.fail })
	s.AddReactor("*", "*", clienttesting.ObjectReaction(codec))
	gv := v1alpha1.GroupVersion()
	s.slices = gentype.NewFakeClientWithList[*v1alpha1.WeftEndpointSlice, *v1alpha1.WeftEndpointSliceList](s.Fake, "",
		gv.WithResource("weftendpointslices"), gv.WithKind("WeftEndpointSlice"),
		func() *v1alpha1.WeftEndpointSlice { return &v1alpha1.WeftEndpointSlice{} },
		func() *v1alpha1.WeftEndpointSliceList { return &v1alpha1.WeftEndpointSliceList{} },
		func(dst, src *v1alpha1.WeftEndpointSliceList) { dst.ListMeta = src.ListMeta },
		func(l *v1alpha1.WeftEndpointSliceList) []*v1alpha1.WeftEndpointSlice {
			return gentype.ToPointerSlice(l.Items)
		},
		func(l *v1alpha1.WeftEndpointSliceList, items []*v1alpha1.WeftEndpointSlice) {
			l.Items = gentype.FromPointerSlice(items)
		})
	s.nodes = gentype.NewFakeClientWithList[*v1alpha1.WeftNode, *v1alpha1.WeftNodeList](s.Fake, "",
		gv.WithResource("weftnodes"), gv.WithKind("WeftNode"),
		func() *v1alpha1.WeftNode { return &v1alpha1.WeftNode{} },
		func() *v1alpha1.WeftNodeList { return &v1alpha1.WeftNodeList{} },
		func(dst, src *v1alpha1.WeftNodeList) { dst.ListMeta = src.ListMeta },
		func(l *v1alpha1.WeftNodeList) []*v1alpha1.WeftNode { return gentype.ToPointerSlice(l.Items) },
		func(l *v1alpha1.WeftNodeList, items []*v1alpha1.WeftNode) { l.Items = gentype.FromPointerSlice(items) })
	if err := s.tracker.Add(&v1alpha1.WeftNode{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u-1", Generation: 3}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// decoder is not asked: the tracker's objects have their types.
type decoder struct{ runtime.Decoder }

// told are the node's slices as the server holds them.
func (s *apiServer) told(t *testing.T) []model.NodeSlice {
	t.Helper()
	fail := s.fail
	s.fail = nil
	defer func() { s.fail = fail }()
	list, err := s.slices.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []model.NodeSlice
	for i := range list.Items {
		slice, errs := k8s.SliceFrom(&list.Items[i])
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		out = append(out, slice)
	}
	return out
}

// writes counts the requests since the last call that changed something.
func (s *apiServer) writes() (n int) {
	for _, a := range s.Actions() {
		if v := a.GetVerb(); v != "get" && v != "list" {
			n++
		}
	}
	s.ClearActions()
	return n
}

func TestSlicesFollowThePods(t *testing.T) {
	api := newAPIServer(t)
	var pods []model.NodeEndpoint
	known := false
	make1 := func() *Slices {
		return New(Config{Node: "n", Slices: api.slices, Nodes: api.nodes, Log: slog.New(slog.DiscardHandler),
			Pods: func() ([]model.NodeEndpoint, bool) { return pods, known },
			Held: func() []model.NodeSlice { return api.told(t) }})
	}
	s := make1()
	pass := func(want int) {
		t.Helper()
		api.ClearActions()
		if err := s.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := api.writes(); got != want {
			t.Errorf("%d writes, want %d", got, want)
		}
		var told []model.NodeEndpoint
		for _, slice := range api.told(t) {
			told = append(told, slice.Endpoints...)
		}
		if known && len(told) != len(pods) {
			t.Errorf("%d endpoints are told, want %d", len(told), len(pods))
		}
	}
	pass(0)
	known = true
	for i := range 40 {
		pods = append(pods, endpoint(i, 300))
	}
	pass(2)
	pass(0)
	pods[35].Identity = 301
	pass(1)
	s = make1() // a new agent
	pass(0)
	pods = pods[:33]
	pass(1)
	pods = pods[1:33]
	pass(1)
	pods = nil
	pass(2)
	if left := api.told(t); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestASliceBelongsToItsNode(t *testing.T) {
	api := newAPIServer(t)
	pods := []model.NodeEndpoint{endpoint(1, 300)}
	s := New(Config{Node: "n", Slices: api.slices, Nodes: api.nodes, Log: slog.New(slog.DiscardHandler),
		Pods: func() ([]model.NodeEndpoint, bool) { return pods, true }, Held: func() []model.NodeSlice { return nil }})
	if err := s.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := api.slices.Get(t.Context(), "n-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := metav1.OwnerReference{APIVersion: "weftmesh.io/v1alpha1", Kind: "WeftNode", Name: "n", UID: "u-1"}
	if got.NodeName != "n" || !reflect.DeepEqual(got.OwnerReferences, []metav1.OwnerReference{want}) {
		t.Errorf("the slice is %+v", got)
	}
	// Another agent's memory does not know it: it is taken over, not made twice.
	s.now, pods[0].Identity = parts{}, 301
	if err := s.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told := api.told(t); len(told) != 1 || told[0].Endpoints[0].Identity != 301 {
		t.Errorf("told are %+v", told)
	}
}

func TestWhatFailsIsWrittenLater(t *testing.T) {
	api := newAPIServer(t)
	s := New(Config{Node: "n", Slices: api.slices, Nodes: api.nodes, Log: slog.New(slog.DiscardHandler),
		Pods: func() ([]model.NodeEndpoint, bool) { return []model.NodeEndpoint{endpoint(1, 300)}, true },
		Held: func() []model.NodeSlice { return nil }})
	api.fail = errors.New("connection refused")
	if err := s.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "WeftNode n") {
		t.Errorf("the failure is told as %v", err)
	}
	api.fail = nil
	if err := s.pass(t.Context()); err != nil || len(api.told(t)) != 1 {
		t.Errorf("after it %v, told %v", err, api.told(t))
	}
}

// Who deletes a slice just after it was written finds it again soon, not at the next
// change of a pod.
func TestASliceDeletedAfterAWriteComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPIServer(t)
		s := New(Config{Node: "n", Slices: api.slices, Nodes: api.nodes, Log: slog.New(slog.DiscardHandler),
			Pods:    func() ([]model.NodeEndpoint, bool) { return []model.NodeEndpoint{endpoint(1, 300)}, true },
			Held:    func() []model.NodeSlice { return api.told(t) },
			Changed: func() <-chan struct{} { return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }() // ends below
		for range 3 {
			synctest.Wait()
			if len(api.told(t)) != 1 {
				t.Fatal("the slice is not written")
			}
			if err := api.slices.Delete(ctx, "n-0", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			<-time.After(echo + time.Second) // of the bubble
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOfTwoSandboxesTheNewerIsTold(t *testing.T) {
	got := Newest([]Attached{{endpoint(1, 300), 7}, {endpoint(2, 300), 3}, {endpoint(1, 301), 9}, {endpoint(1, 302), 8}})
	if len(got) != 2 || got[0].Identity != 301 || got[1].Identity != 300 {
		t.Errorf("got %+v", got)
	}
}
