// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/agent/endpointstore"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

// world is everything around the server.
type world struct {
	mu        sync.Mutex
	pods      map[string]model.Pod // by name
	endpoints map[uint32]model.Endpoint
	devices   map[string]uint32
	waitErr   error
	deleteErr error
	repaired  []uint32
	blocked   []string
}

func (w *world) Pod(k model.PodKey) (model.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.pods[k.Name]
	return p, ok
}

func (w *world) AddOrphan(p model.Pod) (model.Revision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Orphan = true
	w.pods[p.Name] = p
	return 0, nil
}

func (w *world) Upsert(ep model.Endpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endpoints[ep.ID] = ep
	return nil
}

func (w *world) Delete(id uint32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deleteErr == nil {
		delete(w.endpoints, id)
	}
	return w.deleteErr
}

func (w *world) WaitEndpoint(ctx context.Context, id uint32) (model.Revision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ep := w.endpoints[id]; ep.State != model.EndpointReady {
		return 0, fmt.Errorf("endpoint %d is not ready", id)
	}
	return 3, w.waitErr
}

func (w *world) Find(name string) (uint32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[name], nil
}

func (w *world) HostSide() ([]string, error) { return []string{"wf0123456789"}, nil }

func (w *world) Block(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = append(w.blocked, name)
	return nil
}

func (w *world) Remove(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.devices, name)
	return nil
}

func (w *world) EnsureHostSide(ep model.Endpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repaired = append(w.repaired, ep.ID)
	return errors.New("repair fails, which stops nothing")
}

func pod(name string) model.Pod {
	return model.Pod{PodKey: model.PodKey{Namespace: "ns", Name: name}}
}

func newWorld() *world {
	return &world{
		pods:      map[string]model.Pod{"a": pod("a")},
		endpoints: map[uint32]model.Endpoint{}, devices: map[string]uint32{},
	}
}

// serve starts a server on what dir and the world hold.
func serve(t *testing.T, w *world, dir string) *Server {
	t.Helper()
	addrs, err := ipam.NewAllocator(netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	store, err := endpointstore.New(dir, addrs, log)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Store: store, Workloads: w, Endpoints: w, Realizer: w, Devices: w, Log: log,
		CommitTimeout: time.Second, SweepEvery: 5 * time.Millisecond,
	})
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	return s
}

func at(n int) *agentv1.Attachment {
	return &agentv1.Attachment{ContainerId: fmt.Sprint("c", n), Ifname: "eth0"}
}

func prepare(t *testing.T, s *Server, n int) (*agentv1.PrepareResponse, error) {
	t.Helper()
	return s.Prepare(t.Context(), &agentv1.PrepareRequest{
		Attachment: at(n), Netns: "/run/netns/x", PodNamespace: "ns", PodName: "a", PodUid: "u1", Network: "weft",
	})
}

// attach does what the plugin does.
func attach(t *testing.T, s *Server, w *world, n int) error {
	t.Helper()
	r, err := prepare(t, s, n)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.devices[r.GetHostIfname()] = uint32(100 + n)
	w.mu.Unlock()
	_, err = s.Commit(t.Context(), &agentv1.CommitRequest{Attachment: at(n), HostIfindex: uint32(100 + n)})
	return err
}

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v; want %s", err, code)
	}
}

func wantEmpty(t *testing.T, s *Server, w *world) {
	t.Helper()
	if n := len(s.cfg.Store.List()); n != 0 || len(w.endpoints) != 0 || len(w.devices) != 0 {
		t.Errorf("left: %d records, endpoints %v, devices %v", n, w.endpoints, w.devices)
	}
}

func TestPodsThatAreNotAttached(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	hostPod, orphan, other := pod("a"), pod("a"), pod("a")
	hostPod.HostNetwork, orphan.Orphan, other.UID = true, true, "u2"
	for _, c := range []struct {
		pod  model.Pod
		code codes.Code
	}{{hostPod, codes.PermissionDenied}, {orphan, codes.NotFound}, {other, codes.NotFound}} {
		w.pods["a"] = c.pod
		_, err := prepare(t, s, 1)
		wantCode(t, err, c.code)
	}
	w.pods = nil
	_, err := prepare(t, s, 1)
	wantCode(t, err, codes.NotFound)
	wantEmpty(t, s, w)
}

func TestFailedCommitLeavesNothing(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	w.waitErr = errors.New("map is full")
	wantCode(t, attach(t, s, w, 1), codes.Aborted)
	wantEmpty(t, s, w)
	_, err := prepare(t, s, 1)
	wantCode(t, err, codes.OK)
	_, err = s.Commit(t.Context(), &agentv1.CommitRequest{Attachment: at(1), HostIfindex: 5}) // no such device
	wantCode(t, err, codes.Aborted)
	wantEmpty(t, s, w)
	_, err = s.Commit(t.Context(), &agentv1.CommitRequest{Attachment: at(1), HostIfindex: 5})
	wantCode(t, err, codes.NotFound)
	w.waitErr = nil
	wantCode(t, attach(t, s, w, 1), codes.OK)
	_, err = s.Commit(t.Context(), &agentv1.CommitRequest{Attachment: at(1), HostIfindex: 101})
	wantCode(t, err, codes.AlreadyExists)
}

// The manifest may go before the pod does.
func TestEndpointOutlivesItsWorkload(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	wantCode(t, attach(t, s, w, 1), codes.OK)
	w.pods = nil
	if _, err := s.Check(t.Context(), &agentv1.CheckRequest{Attachment: at(1)}); err != nil || len(w.endpoints) != 1 {
		t.Errorf("%v, %v", err, w.endpoints)
	}
	_, err := s.Delete(t.Context(), &agentv1.DeleteRequest{Attachment: at(1)})
	wantCode(t, err, codes.OK)
	wantEmpty(t, s, w)
}

func TestRestoreGivesThePodsBackAsOrphans(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	web := pod("a")
	web.Labels, web.ServiceAccount = map[string]string{"app": "web"}, "trusted"
	w.pods["a"] = web
	wantCode(t, attach(t, serve(t, w, dir), w, 1), codes.OK)
	w.pods = map[string]model.Pod{}
	s := serve(t, w, dir)
	if p := w.pods["a"]; !p.Orphan || p.UID != "u1" || p.Labels["app"] != "web" || p.ServiceAccount != "trusted" {
		t.Errorf("restored %+v", p)
	}
	_, err := prepare(t, s, 2)
	wantCode(t, err, codes.NotFound)
}

func TestDeleteThatFailsCanBeRepeated(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	wantCode(t, attach(t, s, w, 1), codes.OK)
	w.deleteErr = errors.New("the table is closed")
	_, err := s.Delete(t.Context(), &agentv1.DeleteRequest{Attachment: at(1)})
	wantCode(t, err, codes.Internal)
	if len(s.cfg.Store.List()) != 1 {
		t.Error("the record went while the endpoint stayed")
	}
	w.deleteErr = nil
	for range 2 {
		_, err = s.Delete(t.Context(), &agentv1.DeleteRequest{Attachment: at(1)})
		wantCode(t, err, codes.OK)
	}
	wantEmpty(t, s, w)
}

func TestRestoreFillsTheTable(t *testing.T) {
	dir, w := t.TempDir(), newWorld()
	s := serve(t, w, dir)
	for n := range 3 {
		wantCode(t, attach(t, s, w, n), codes.OK)
	}
	before := w.endpoints
	w.endpoints = map[uint32]model.Endpoint{}
	s = serve(t, w, dir)
	for id, ep := range before {
		if w.endpoints[id] != ep {
			t.Errorf("endpoint %d was %+v, is %+v", id, ep, w.endpoints[id])
		}
	}
	if len(w.repaired) != 3 {
		t.Errorf("repaired: %v", w.repaired)
	}
	_, err := s.CollectGarbage(t.Context(), &agentv1.CollectGarbageRequest{Network: "weft"})
	wantCode(t, err, codes.OK)
	wantEmpty(t, s, w)
}

// A tombstone that is written while the agent runs is found by itself.
func TestRunSweepsTombstones(t *testing.T) {
	dir, w := t.TempDir(), newWorld()
	s := serve(t, w, dir)
	wantCode(t, attach(t, s, w, 1), codes.OK)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if err := attachment.WriteTombstone(dir, attachment.Key{ContainerID: "c1", IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(s.cfg.Store.List()) != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the tombstone was not completed")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantEmpty(t, s, w)
}

// Many attachments at once, each attached, deleted and attached again by several
// callers: one of them wins, addresses and slots are never shared, nothing is left.
func TestManyAtOnce(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for range 3 {
				if err := attach(t, s, w, i%20); err != nil && status.Code(err) != codes.AlreadyExists {
					// The other caller's DEL may come between the two steps.
					if c := status.Code(err); c != codes.NotFound && c != codes.Aborted {
						t.Error(err)
					}
				}
				seen := map[netip.Addr]uint32{}
				for _, r := range s.cfg.Store.List() {
					if other, ok := seen[r.IPv4]; ok {
						t.Errorf("endpoints %d and %d have %s", r.ID, other, r.IPv4)
					}
					seen[r.IPv4] = r.ID
				}
				if _, err := s.Delete(t.Context(), &agentv1.DeleteRequest{Attachment: at(i % 20)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.cfg.Store.List()); n != 0 || len(w.endpoints) != 0 || len(s.held) != 0 {
		t.Errorf("left: %d records, endpoints %v, held %v", n, w.endpoints, s.held)
	}
}

func TestCallerThatGivesUpDoesNotWait(t *testing.T) {
	s := serve(t, newWorld(), t.TempDir())
	letGo, err := s.hold(t.Context(), attachment.Key{ContainerID: "c1", IfName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Delete(ctx, &agentv1.DeleteRequest{Attachment: at(1)})
	wantCode(t, err, codes.Canceled)
	letGo()
	_, err = s.Delete(t.Context(), &agentv1.DeleteRequest{Attachment: at(1)})
	wantCode(t, err, codes.OK)
}

func TestBadRequests(t *testing.T) {
	w := newWorld()
	s := serve(t, w, t.TempDir())
	for _, req := range []*agentv1.PrepareRequest{
		{}, {Attachment: &agentv1.Attachment{ContainerId: "../c", Ifname: "eth0"}},
		{Attachment: at(1), Netns: "x"}, {Attachment: at(1), Netns: "/x"},
	} {
		_, err := s.Prepare(t.Context(), req)
		wantCode(t, err, codes.InvalidArgument)
	}
	_, err := s.CollectGarbage(t.Context(), &agentv1.CollectGarbageRequest{Valid: []*agentv1.Attachment{nil}})
	wantCode(t, err, codes.InvalidArgument)
	_, err = s.Check(t.Context(), &agentv1.CheckRequest{Attachment: at(1)})
	wantCode(t, err, codes.NotFound)
}

// A device that no record speaks of would have a network without policy.
func TestDevicesWithoutRecordAreBlocked(t *testing.T) {
	w := newWorld()
	serve(t, w, t.TempDir())
	if len(w.blocked) != 1 || w.blocked[0] != "wf0123456789" {
		t.Errorf("blocked: %v", w.blocked)
	}
}
