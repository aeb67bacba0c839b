// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func toModel(f *agentv1.Flow) []*model.Flow { return []*model.Flow{flow.FromProto(f)} }

func TestObserveForms(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	for _, form := range []string{"compact", "table", "json", "jsonpb"} {
		got := run(t, socket, "observe", "-o", form)
		if got.code != ExitOK || got.stderr != "" {
			t.Errorf("%s: exit %d: %s", form, got.code, got.stderr)
		}
		golden(t, "testdata/observe-"+form+".txt", got.stdout)
	}
	golden(t, "testdata/observe-color.txt", run(t, socket, "observe", "--color", "always").stdout)
}

func TestDropReadsWell(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	const want = "12:03:04.123 DROPPED   demo/intruder:41234 (300) -> demo/backend-v1:8080 (257) tcp SYN  " +
		"denied by default: WeftNetworkPolicy demo/backend isolates ingress\n"
	if got := run(t, socket, "observe", "--verdict", "dropped", "--port", "41234"); got.stdout != want {
		t.Errorf("got  %swant %s", got.stdout, want)
	}
}

func TestColoursOnlyAtATerminalThatWantsThem(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	noColor := func(name string) string {
		if name == "NO_COLOR" {
			return "1"
		}
		return ""
	}
	for name, c := range map[string]struct {
		env  Env
		args []string
		want bool
	}{
		"terminal":           {Env{Terminal: true}, nil, true},
		"pipe":               {Env{}, nil, false},
		"NO_COLOR":           {Env{Terminal: true, Getenv: noColor}, nil, false},
		"never":              {Env{Terminal: true}, []string{"--color", "never"}, false},
		"always is explicit": {Env{Getenv: noColor}, []string{"--color=always"}, true},
	} {
		got := runIn(t, t.Context(), c.env, socket, append([]string{"observe"}, c.args...)...)
		if coloured := strings.Contains(got.stdout, "\x1b["); coloured != c.want {
			t.Errorf("%s: coloured %v", name, coloured)
		}
	}
}

func TestObserveFilters(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	for args, want := range map[string]int{
		"":                                   7,
		"--last 2":                           2,
		"--since 9700ms":                     4,
		"--since 2026-11-22T12:03:04.5Z":     2,
		"--pod demo/intruder":                3,
		"--pod client":                       4,
		"--from-pod demo/ --to-pod backend":  5,
		"-n demo":                            7,
		"-n prod":                            0,
		"-l app=intruder":                    3,
		"--identity 300,1":                   4,
		"--ip 192.0.2.0/24":                  1,
		"--port 8080":                        3,
		"--protocol icmp,icmpv6":             2,
		"--type end --type audit":            2,
		"--verdict forwarded":                3,
		"--not-verdict dropped":              4,
		"--not-pod intruder --not-type end":  3,
		"--verdict dropped --not-port 41234": 2,
		"--not-label app=client":             3,
	} {
		got := run(t, socket, append([]string{"observe"}, strings.Fields(args)...)...)
		if n := strings.Count(got.stdout, "\n"); n != want || got.code != ExitOK {
			t.Errorf("%q: %d flows, want %d (exit %d %s)", args, n, want, got.code, got.stderr)
		}
	}
}

// proxied is a connection by the proxy, and what was asked there.
func proxied() []*agentv1.Flow {
	all := story()[:3]
	for i, leg := range []agentv1.FlowLeg{agentv1.FlowLeg_FLOW_LEG_DOWNSTREAM, agentv1.FlowLeg_FLOW_LEG_BETWEEN, agentv1.FlowLeg_FLOW_LEG_UPSTREAM} {
		all[i] = proto.CloneOf(story()[0])
		all[i].Ruleset, all[i].Leg, all[i].Service = 3, leg, nil
	}
	for i, r := range []*agentv1.Request{
		{Ruleset: 3, Outcome: "allow", Protocol: "HTTP/1.1", Method: "GET", Path: "/api/cars", Host: "shop", Status: 200},
		{Ruleset: 3, Outcome: "deny", Protocol: "HTTP/1.1", Method: "POST", Path: "/api/cars", Host: "shop", Status: 403},
		{Ruleset: 3, Outcome: "allow", Protocol: "HTTP/1.1", Method: "GET", Path: "/{a,b}", Host: "shop", Status: 503},
	} {
		f := proto.CloneOf(story()[0])
		f.Type, f.Request, f.Service, f.TcpFlags = agentv1.FlowType_FLOW_TYPE_REQUEST, r, nil, ""
		f.Time = timestamppb.New(f.GetTime().AsTime().Add(time.Duration(i) * time.Millisecond))
		all = append(all, f)
	}
	return all
}

func TestLegsOfConnectionsAreTold(t *testing.T) {
	socket := serve(t, &agent{flows: proxied()})
	const want = "12:03:04.100 FORWARDED demo/client:40001 (256) -> demo/backend-v1:8080 (257) tcp SYN  " +
		"to the proxy (ruleset 3), allowed by WeftNetworkPolicy demo/backend ingress[0]\n"
	got := run(t, socket, "observe", "--type", "new").stdout
	for _, leg := range []string{"to the proxy (", "to the proxy again (", "from the proxy ("} {
		if !strings.Contains(got, strings.Replace(want, "to the proxy (", leg, 1)) {
			t.Errorf("got\n%swant %s", got, leg)
		}
	}
	if json := run(t, socket, "observe", "--type", "new", "-o", "json").stdout; !strings.Contains(json, `"ruleset":3`) ||
		!strings.Contains(json, `"leg":"FLOW_LEG_UPSTREAM"`) {
		t.Errorf("as JSON: %s", json)
	}
}

func TestObserveFiltersRequests(t *testing.T) {
	socket := serve(t, &agent{flows: proxied()})
	for args, want := range map[string]int{
		"--type request":                           3,
		"--http-method get":                        2,
		"--http-method GET,POST --http-path /api":  2,
		"--http-path /api/c.*s$ --http-status 403": 1,
		"--http-path /\\{a,b":                      1,
		"--http-status 5+,403":                     2,
		"--type request --not-http-status 200":     2,
		"--not-http-method POST":                   5,
	} {
		got := run(t, socket, append([]string{"observe"}, strings.Fields(args)...)...)
		if n := strings.Count(got.stdout, "\n"); n != want || got.code != ExitOK {
			t.Errorf("%q: %d flows, want %d (exit %d %s)", args, n, want, got.code, got.stderr)
		}
	}
}

func TestObserveRefusesBadValues(t *testing.T) {
	socket := serve(t, &agent{})
	for args, want := range map[string]string{
		"--since yesterday": `--since "yesterday": want a duration`,
		"--port http":       `--port: "http": want a number`,
		"--verdict denied":  `--verdict: "denied": want forwarded, dropped or audit`,
		"--not-type x":      `--not-type: "x": want new`,
		"--ip 10.0.0":       `ip "10.0.0": want an address or a CIDR`,
		"--http-path /a(":   `http path "/a(": error parsing regexp`,
		"--http-status 5xx": `http status "5xx": want a number such as 404`,
		"-o yaml":           `--output "yaml": want one of compact, table, json, jsonpb`,
		"--color red":       `--color "red"`,
		"extra":             `unexpected argument "extra"`,
		"--frobnicate":      "unknown flag",
	} {
		got := run(t, socket, append([]string{"observe"}, strings.Fields(args)...)...)
		if got.code != ExitUsage || !strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, "weft observe --help") {
			t.Errorf("%s: exit %d, %s", args, got.code, got.stderr)
		}
	}
}

func TestObserveAsksForTheNewestByDefault(t *testing.T) {
	a := &agent{}
	socket := serve(t, a)
	run(t, socket, "observe")
	if got := a.request(); got.GetLast() != defaultLast || got.GetSince() != nil || len(got.GetInclude()) != 0 {
		t.Errorf("observe asks for %v", got)
	}
	run(t, socket, "observe", "--last", "0")
	if got := a.request(); got.GetLast() != 0 || got.GetSince() != nil {
		t.Errorf("observe --last 0 asks for %v", got)
	}
}

func TestJSONLinesReadBack(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	lines := strings.Split(strings.TrimSpace(run(t, socket, "observe", "-o", "json").stdout), "\n")
	if len(lines) != len(story()) {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// A follower that is interrupted has done what it was asked for.
func TestFollowEndsWithCtrlC(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	done := make(chan result)
	go func() { done <- runIn(t, ctx, Env{Stdout: w}, socket, "observe", "-f", "--last", "1") }()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.Contains(line, "ENDED") {
		t.Fatalf("got %q, %v", line, err)
	}
	interrupt()
	if got := <-done; got.code != ExitOK || got.stderr != "" {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
}

func TestReaderThatGoesAwayEndsItQuietly(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	for _, args := range [][]string{{"observe", "-f", "--last", "3"}, {"observe", "-o", "table"}, {"endpoint", "list"}} {
		got := runIn(t, t.Context(), Env{Stdout: w}, socket, args...)
		if got.code != ExitOK || got.stderr != "" {
			t.Errorf("%v: exit %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestFollowIntoATableHasFixedColumns(t *testing.T) {
	socket := serve(t, &agent{flows: story()})
	ctx, interrupt := context.WithTimeout(t.Context(), 10*time.Second)
	defer interrupt()
	r, w := io.Pipe()
	done := make(chan result)
	go func() { done <- runIn(t, ctx, Env{Stdout: w}, socket, "observe", "-f", "--last", "1", "-o", "table") }()
	lines := bufio.NewScanner(r)
	lines.Scan()
	head := lines.Text()
	lines.Scan()
	if row := lines.Text(); strings.Index(head, "DESTINATION") != strings.Index(row, "demo/backend-v1") {
		t.Errorf("columns are not aligned:\n%s\n%s", head, row)
	}
	interrupt()
	<-done
}

func TestLossIsTold(t *testing.T) {
	socket := serve(t, &lossy{})
	got := run(t, socket, "observe")
	if got.code != ExitOK || !strings.Contains(got.stderr, "12 flows were lost") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	got = run(t, socket, "observe", "-o", "jsonpb")
	if got.stdout != `{"lost":"12"}`+"\n" {
		t.Errorf("jsonpb: %s", got.stdout)
	}
}

func TestStoryRoundTrips(t *testing.T) {
	for i, f := range story() {
		back := flow.ToProto(flow.FromProto(f))
		if back.GetDropReason() != f.GetDropReason() || back.GetProtocol() != f.GetProtocol() ||
			back.GetTcpFlags() != f.GetTcpFlags() || !proto.Equal(back.GetTime(), f.GetTime()) ||
			len(back.GetIngress()) != len(f.GetIngress()) {
			t.Errorf("flow %d: %v became %v", i, f, back)
		}
	}
}
