// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/pkg/model"
)

// wellFed is sources that have something for every metric.
func wellFed() Sources {
	return Sources{
		Packets: func() ([]Packets, error) {
			return []Packets{
				{Reason: model.ReasonPassed, Direction: model.Ingress, Packets: 10, Bytes: 1000},
				{Reason: model.ReasonPolicyDefault, Direction: model.Ingress, Packets: 3, Bytes: 180},
			}, nil
		},
		Conntrack: func() (Conntrack, error) {
			return Conntrack{Answered: 4, Unanswered: 2, Evicted: 1, Translated: 3}, nil
		},
		Flows: func() Flows {
			return Flows{Seen: map[model.FlowType]uint64{model.FlowDrop: 3}, Lost: 5, Stored: 7}
		},
		Requests:       func() map[string]uint64 { return map[string]uint64{"dropped": 2} },
		PairsPushedOut: func() (uint64, error) { return 6, nil },
		SocketsEnded:   func() (map[string]uint64, error) { return map[string]uint64{"tcp": 8, "udp": 9}, nil },
		State: func() State {
			return State{Desired: 13, Realized: 12, Problems: 1,
				Endpoints: map[string]int{"ready": 5}, Identities: map[string]int{"cluster": 4},
				Policies: map[string]int{"WeftNetworkPolicy": 2}, Failing: map[string]int{"endpoint slot": 1},
				Services: map[string]int{"yes": 2, "no": 1}, Rulesets: map[string]int{"refused": 4}}
		},
	}
}

func newTestAgent() (*Agent, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	a := NewAgent(reg, "1.2.3")
	a.ReconcileErrors("address", 2)
	a.Drift("kernel", 1)
	a.KubernetesFailure("Pod")
	_, _ = a.CountRequests(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/weft.agent.v1.CNIService/Commit"},
		func(context.Context, any) (any, error) { return nil, status.Error(codes.Unavailable, "later") })
	return a, reg
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestMetricsAreExported(t *testing.T) {
	a, reg := newTestAgent()
	a.Watch(wellFed())
	code, body := get(t, Handler(reg, Health{}, quiet()), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	for _, want := range []string{
		`weft_agent_build_info{version="1.2.3"} 1`,
		`weft_agent_revision_desired 13`,
		`weft_agent_endpoints{state="ready"} 5`,
		`weft_agent_reconcile_errors_total{kind="address"} 2`,
		`weft_agent_requests_total{code="Unavailable",method="Commit"} 1`,
		`weft_agent_request_duration_seconds_count{method="Commit"} 1`,
		`weft_datapath_drop_packets_total{direction="ingress",reason="POLICY_DEFAULT"} 3`,
		`weft_datapath_forwarded_bytes_total{direction="ingress"} 1000`,
		`weft_datapath_conntrack_entries{state="unanswered"} 2`,
		`weft_datapath_translated_flows 3`,
		`weft_flow_events_total{type="drop"} 3`,
		`weft_flow_lost_total 5`,
		`weft_agent_services{served="no"} 1`,
		`weft_socket_pairs_pushed_out_total 6`,
		`weft_agent_rulesets{state="refused"} 4`,
		`weft_flow_requests_total{verdict="dropped"} 2`,
		`weft_sockets_destroyed_total{protocol="udp"} 9`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
}

// The table, what is exported and docs/METRICS.md are the same.
func TestTableRegistryAndDocumentAgree(t *testing.T) {
	a, reg := newTestAgent()
	a.Watch(wellFed())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, f := range families {
		exported[f.GetName()] = true
		d := definition(f.GetName()) // panics if it is not in the table
		if f.GetHelp() != d.Help || !strings.EqualFold(f.GetType().String(), typeName(d)) {
			t.Errorf("%s is exported as a %s: %s", d.Name, f.GetType(), f.GetHelp())
		}
		labels := f.GetMetric()[0].GetLabel()
		if len(labels) != len(d.Labels) {
			t.Errorf("%s has labels %v, the table says %v", d.Name, labels, d.Labels)
		}
	}
	for _, d := range Definitions() {
		if !exported[d.Name] {
			t.Errorf("%s is in the table and is never exported", d.Name)
		}
	}
	document(t, "../../docs/METRICS.md")
}

func typeName(d Definition) string {
	switch d.Type {
	case prometheus.CounterValue:
		return "counter"
	case prometheus.GaugeValue:
		return "gauge"
	}
	return "histogram"
}

// document compares the file with the table, or with WEFT_UPDATE set writes it.
func document(t *testing.T, file string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Metrics\n\nThe agent serves them at `/metrics`, and its health at `/healthz`; those of the process and of Go's\n" +
		"run time come with them. Written by `WEFT_UPDATE=1 go test ./pkg/metrics` from the table in the code.\n\n" +
		"| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range Definitions() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, typeName(d), strings.Join(d.Labels, ", "), d.Help)
	}
	b.WriteString("\n## Operator\n\nweft-operator serves these at `operator.metricsAddress`, with `/healthz` and `/readyz`; Prometheus in Kubernetes: [KUBERNETES.md](KUBERNETES.md#metrics).\n\n" +
		"| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range OperatorDefinitions() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, typeName(d), strings.Join(d.Labels, ", "), d.Help)
	}
	b.WriteString("\n## Reasons of drops\n\nThe values of the label `reason`, also in `weft status`, in flows and in the API.\n\n| reason | meaning |\n|---|---|\n")
	for _, r := range model.ReasonTexts()[1:] {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, r.Sentence)
	}
	if os.Getenv("WEFT_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("%s differs from the table: run this test with WEFT_UPDATE=1", file)
	}
}

func TestOneBrokenSourceDoesNotBlindTheOthers(t *testing.T) {
	a, reg := newTestAgent()
	sources := wellFed()
	sources.Packets = func() ([]Packets, error) { return nil, errors.New("map is gone") }
	a.Watch(sources)
	code, body := get(t, Handler(reg, Health{}, quiet()), "/metrics")
	if code != http.StatusOK || !strings.Contains(body, "weft_flow_lost_total 5") || strings.Contains(body, "weft_datapath_drop") {
		t.Errorf("status %d:\n%s", code, body)
	}
}

func TestNoSources(t *testing.T) {
	a, reg := newTestAgent()
	a.Watch(Sources{})
	if code, _ := get(t, Handler(reg, Health{}, quiet()), "/metrics"); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
}

func TestHealthzAndReadyz(t *testing.T) {
	var sick, unready error
	h := Handler(NewRegistry(), Health{Alive: func() error { return sick }, Ready: func() error { return unready }}, quiet())
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(t, h, path); code != http.StatusOK || body != "ok\n" {
			t.Errorf("well: %s %d %s", path, code, body)
		}
	}
	unready = errors.New("the datapath is not loaded")
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || body != unready.Error()+"\n" {
		t.Errorf("not ready: %d %s", code, body)
	}
	if code, _ := get(t, h, "/healthz"); code != http.StatusOK {
		t.Errorf("not ready, yet alive: %d", code)
	}
	sick = errors.New("stuck")
	if code, body := get(t, h, "/healthz"); code != http.StatusServiceUnavailable || body != sick.Error()+"\n" {
		t.Errorf("sick: %d %s", code, body)
	}
}
