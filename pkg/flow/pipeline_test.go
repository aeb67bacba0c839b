// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// scripted is a ring buffer that holds some records and is then closed.
type scripted struct {
	records [][]byte
	lost    uint64
	end     error
}

func (s *scripted) ReadFlow(time.Time) ([]byte, error) {
	if len(s.records) == 0 {
		return nil, s.end
	}
	raw := s.records[0]
	s.records = s.records[1:]
	return raw, nil
}

func (s *scripted) LostFlows() (uint64, error) { return s.lost, nil }

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
	source := &scripted{
		records: [][]byte{encode(dropped()), {1, 2, 3}, encode(dropped())}, lost: 3, end: os.ErrClosed,
	}
	p := testPipeline(source, store)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.Counters()
	if c.Total() != 2 || c.Malformed != 1 || c.Lost != 3 || c.Stored != 2 {
		t.Errorf("counters: %+v", c)
	}
	b := follower.Next()
	if b.Lost != 3 {
		t.Errorf("the follower is told of %d lost, want 3", b.Lost)
	}
	if len(b.Flows) != 2 || !b.Flows[0].Time.Equal(noon()) || b.Flows[0].Peers[0].Pod.Name != "intruder" {
		t.Errorf("stored: %+v", b.Flows)
	}
}

func TestPipelineReportsABrokenSource(t *testing.T) {
	broken := errors.New("bad file descriptor")
	if err := testPipeline(&scripted{end: broken}, NewStore(1)).Run(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
}

func TestPipelineEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := testPipeline(&scripted{end: os.ErrDeadlineExceeded}, NewStore(1)).Run(ctx); err != nil {
		t.Fatal(err)
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
