// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// scripted is a ring buffer that gives some records and then ends.
type scripted struct {
	records []weftbpf.BpfWeftFlow
	lost    uint64
	err     error
	wait    bool // after the records, until the context ends
}

func (s *scripted) RunEvents(ctx context.Context, fn func(*weftbpf.BpfWeftFlow)) error {
	for i := range s.records {
		fn(&s.records[i])
	}
	if s.wait {
		<-ctx.Done()
	}
	return s.err
}

func (s *scripted) LostEvents() (uint64, error) { return s.lost, nil }

func testPipeline(source Source, store *Store) *Pipeline {
	return NewPipeline(Config{
		Source: source, Store: store, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Names: func() Names { return demoNames() },
		Clock: func() (time.Time, time.Duration, error) { return noon(), 90 * time.Second, nil },
	})
}

func TestPipelineStoresAndCounts(t *testing.T) {
	store := NewStore(16)
	follower := store.Reader(Start{})
	source := &scripted{records: []weftbpf.BpfWeftFlow{dropped(), {Type: 99}, dropped()}, lost: 3}
	p := testPipeline(source, store)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.Counters()
	if c.Total() != 2 || c.Seen[model.FlowDrop] != 2 || c.Malformed != 1 || c.Lost != 3 || c.Stored != 2 {
		t.Errorf("counters: %+v", c)
	}
	b := follower.Next()
	if len(b.Flows) != 2 || !b.Flows[0].Time.Equal(noon()) || b.Flows[0].Peers[0].Pod.Name != "intruder" {
		t.Errorf("stored: %+v", b.Flows)
	}
	if b.Lost != 3 {
		t.Errorf("the follower is told of %d lost, want 3", b.Lost)
	}
}

func TestPipelineShowsEventsWhileItRuns(t *testing.T) {
	store := NewStore(16)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	p := testPipeline(&scripted{records: []weftbpf.BpfWeftFlow{dropped()}, wait: true}, store)
	go func() { ended <- p.Run(ctx) }()
	if err := store.Reader(Start{}).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestPipelineBoundsABurst(t *testing.T) {
	store := NewStore(16)
	p := testPipeline(&scripted{}, store)
	for range pendingMax + 5 {
		raw := dropped()
		p.take(&raw)
	}
	if c := p.Counters(); c.Lost != 5 || c.Total() != pendingMax+5 {
		t.Errorf("counters: %+v", c)
	}
}

func TestPipelineReportsABrokenSource(t *testing.T) {
	broken := errors.New("bad file descriptor")
	if err := testPipeline(&scripted{err: broken}, NewStore(1)).Run(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
}

// api serves ObserveFlows alone.
type api struct {
	agentv1.UnimplementedAgentServiceServer
	observer Observer
}

func (a *api) ObserveFlows(req *agentv1.ObserveFlowsRequest, s grpc.ServerStreamingServer[agentv1.ObserveFlowsResponse]) error {
	return a.observer.ObserveFlows(req, s)
}

func serve(t *testing.T, store *Store) agentv1.AgentServiceClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentv1.RegisterAgentServiceServer(server, &api{observer: Observer{Store: store}})
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agentv1.NewAgentServiceClient(conn)
}

func TestObserveFollows(t *testing.T) {
	store := NewStore(8)
	store.Add(numbered(1, 2), 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := serve(t, store).ObserveFlows(ctx, &agentv1.ObserveFlowsRequest{Follow: true, Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	expectFlow(t, stream, 2)
	store.Add(numbered(3, 3), 5)
	if msg, err := stream.Recv(); err != nil || msg.GetLost() != 5 {
		t.Fatalf("got %v, %v; want 5 lost", msg, err)
	}
	expectFlow(t, stream, 3)
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Fatalf("got %v", err)
	}
}

func expectFlow(t *testing.T, stream agentv1.AgentService_ObserveFlowsClient, count uint32) {
	t.Helper()
	msg, err := stream.Recv()
	if err != nil || msg.GetFlow().GetCount() != count {
		t.Fatalf("got %v, %v; want flow %d", msg, err, count)
	}
}

func TestObserveEndsAndRefusesBadFilters(t *testing.T) {
	store := NewStore(8)
	store.Add(numbered(1, 1), 0)
	client := serve(t, store)
	stream, err := client.ObserveFlows(t.Context(), &agentv1.ObserveFlowsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expectFlow(t, stream, 1)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the end", err)
	}
	stream, err = client.ObserveFlows(t.Context(), &agentv1.ObserveFlowsRequest{Include: []*agentv1.FlowFilter{{Ip: []string{"x"}}}})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("got %v", err)
	}
}
