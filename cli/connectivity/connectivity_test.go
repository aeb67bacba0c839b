// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/cli/cluster"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// probe runs probes as the command in a pod does.
func probe(t *testing.T, probes ...Probe) []Outcome {
	t.Helper()
	in, err := json.Marshal(probes)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := RunProbes(t.Context(), bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	var outcomes []Outcome
	if err := json.Unmarshal(out.Bytes(), &outcomes); err != nil || len(outcomes) != len(probes) {
		t.Fatalf("%v: %s", err, out.String())
	}
	return outcomes
}

func TestProbesMeetWhatServes(t *testing.T) {
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go answer(udp.(*net.UDPConn), "test/server") //nolint:errcheck // ends with Close
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for i, o := range probe(t,
		Probe{Kind: KindUDP, Family: 4, Address: udp.LocalAddr().String(), Timeout: 5 * time.Second},
		Probe{Kind: KindUDP, Family: 4, Address: silent.LocalAddr().String(), Timeout: 50 * time.Millisecond},
		Probe{Kind: KindTCP, Family: 4, Address: closed.Addr().String(), Timeout: 5 * time.Second},
		Probe{Kind: KindHTTP, Address: "no.such.name.invalid:80", Timeout: 5 * time.Second},
		Probe{Kind: "pigeon", Address: "127.0.0.1:1", Timeout: time.Second},
	) {
		want := []Outcome{{Answer: "test/server"}, {Failure: FailTimeout}, {Failure: FailRefused}, {Failure: FailName}, {Failure: FailOther}}[i]
		if o.Answer != want.Answer || o.Failure != want.Failure {
			t.Errorf("probe %d: %+v", i, o)
		}
	}
	if err := RunProbes(t.Context(), strings.NewReader("{"), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Errorf("got %v", err)
	}
}

func TestJudgement(t *testing.T) {
	p := Probe{Kind: KindHTTP, Address: "10.0.0.1:8080", Timeout: time.Second}
	for name, c := range map[string]struct {
		check    check
		outcome  Outcome
		happened string // empty: it is as it should be
	}{
		"answered by whom it should be": {check{answer: []string{"a/b", "a/c"}}, Outcome{Answer: "a/c"}, ""},
		"answered by another":           {check{answer: []string{"a/b"}}, Outcome{Answer: "x/y"}, "answered: x/y"},
		"not answered":                  {check{}, Outcome{Failure: FailTimeout}, "no answer from 10.0.0.1:8080 within 1s"},
		"denied":                        {check{denied: true}, Outcome{Failure: FailTimeout}, ""},
		"refused is not denied":         {check{denied: true}, Outcome{Failure: FailRefused}, "refused by 10.0.0.1:8080"},
		"answered in spite of it":       {check{denied: true}, Outcome{Answer: "a/b"}, "answered: a/b"},
		"an unresolved name is neither": {check{denied: true}, Outcome{Failure: FailName, Detail: "the name x"}, "the name x"},
		"a name that may not resolve":   {check{unresolved: true}, Outcome{Failure: FailName}, ""},
		"a name that still resolves":    {check{unresolved: true}, Outcome{Answer: "10.0.0.2"}, "answered: 10.0.0.2"},
	} {
		c.check.probe = p
		if expected, happened := c.check.judge(c.outcome); happened != c.happened || (expected == "") != (happened == "") {
			t.Errorf("%s: expected %q, happened %q", name, expected, happened)
		}
	}
}

func TestHintsAreOfTheCall(t *testing.T) {
	drop := &agentv1.Flow{Type: agentv1.FlowType_FLOW_TYPE_DROP, Node: "n1", DropReason: 14, Protocol: "tcp",
		Source:      &agentv1.Peer{Namespace: namespace, Pod: "client", Ip: "10.0.0.1", Port: 40000},
		Destination: &agentv1.Peer{Namespace: namespace, Pod: "server-near", Ip: "10.0.0.2", Port: 8080}}
	from := (&Pod{Namespace: namespace, Name: "client"}).caller()
	tcp := check{from: from, probe: Probe{Kind: KindHTTP, Family: 4, Address: "10.0.0.2:8080"}}
	if got := hintOf(tcp, []*agentv1.Flow{drop}); !strings.HasPrefix(got, "node n1: ") || !strings.Contains(got, "DROPPED") {
		t.Errorf("got %q", got)
	}
	for name, change := range map[string]func(*check){
		"another port":     func(c *check) { c.probe.Address = "10.0.0.2:8081" },
		"another address":  func(c *check) { c.probe.Address = "10.0.0.3:8080" },
		"another protocol": func(c *check) { c.probe.Kind = KindUDP },
		"another family":   func(c *check) { c.probe.Family = 6 },
		"another caller":   func(c *check) { c.from.pod = "stranger" },
		"to be denied":     func(c *check) { c.denied = true },
	} {
		other := tcp
		change(&other)
		if got := hintOf(other, []*agentv1.Flow{drop}); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	service := tcp
	service.probe.Address = "10.96.0.9:80"
	if got := hintOf(service, []*agentv1.Flow{drop}); got != "" {
		t.Errorf("not of the service: %q", got)
	}
	drop.Service = &agentv1.FlowService{Namespace: namespace, Name: "echo", Port: 80}
	if hintOf(service, []*agentv1.Flow{drop}) == "" {
		t.Error("a drop behind a service is not found")
	}
}

func TestResultsOfAFamilyAreOne(t *testing.T) {
	got := together([]Result{
		{Test: "t", Check: "a to b", Status: OK, variant: "IPv4 TCP", Seconds: 1},
		{Test: "t", Check: "a to b", Status: Failed, variant: "IPv6 TCP", Happened: "first"},
		{Test: "t", Check: "a to b", Status: Failed, variant: "IPv6 UDP", Happened: "second"},
		{Test: "t", Check: "a to c", Status: OK, variant: "IPv4 TCP"},
	})
	if len(got) != 2 || got[0].Check != "a to b (IPv6 TCP, IPv6 UDP)" || got[0].Happened != "first" || got[0].Seconds != 1 || got[1].Check != "a to c (IPv4 TCP)" {
		t.Errorf("%+v", got)
	}
	if line := got[0].Line(); !strings.Contains(line, "FAILED\n") || !strings.Contains(line, "happened: first") {
		t.Error(line)
	}
	sum := Sum(got, time.Second)
	var json, junit bytes.Buffer
	if err := WriteJSON(&json, got, sum); err != nil || !strings.Contains(json.String(), `"failed": 1`) {
		t.Errorf("%v: %s", err, json.String())
	}
	if err := WriteJUnit(&junit, got, sum); err != nil || !strings.Contains(junit.String(), `failures="1"`) || !strings.Contains(junit.String(), `message="first"`) {
		t.Errorf("%v: %s", err, junit.String())
	}
}

// Every test has checks on one node and on two, with a pod that is not ready, too.
func TestTestsFitTheirStage(t *testing.T) {
	nodes := []node{{name: "n1", addresses: []netip.Addr{netip.MustParseAddr("172.30.0.11")}}, {name: "n2"}}
	for count := 1; count <= 2; count++ {
		s := newStage(nil, nodes[:count], "192.0.2.2:80")
		s.cluster = testCluster()
		s.families = []int{4, 6}
		s.services["echo"], s.services["echo-headless"] = serviceObject("echo", nil, false), serviceObject("echo-headless", nil, true)
		s.services["echo"].Spec.ClusterIPs = []string{"10.96.0.9", "fd00:10:96::9"}
		s.apiServer = []string{"10.96.0.1"}
		for i, p := range s.pods() {
			if p != s.guest {
				p.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(i + 2)}), netip.AddrFrom16([16]byte{0xfd, 15: byte(i + 2)})}
			}
		}
		for _, test := range Tests() {
			for _, st := range test.steps(s) {
				if len(st.checks) == 0 {
					t.Errorf("%d nodes, %s %s: nothing is checked", count, test.Name, st.name)
				}
				seen := map[string]bool{}
				for _, c := range st.checks {
					if seen[c.name+c.variant] {
						t.Errorf("%d nodes, %s: %s %s twice", count, test.Name, c.name, c.variant)
					}
					seen[c.name+c.variant] = true
				}
			}
		}
	}
}

func TestPodsThatAreNotReadyAreNamed(t *testing.T) {
	p := &Pod{Namespace: namespace, Name: "server-far", Node: "n2", Fault: "ContainerCreating"}
	checks := reach((&Pod{Namespace: namespace, Name: "client"}).caller(), "client", p)
	_, err := (&runner{}).probe(context.Background(), checks[0].from, []Probe{checks[0].probe})
	if len(checks) != 1 || err == nil || err.Error() != "not tried: pod weft-test/server-far on node n2 is not ready: ContainerCreating" {
		t.Errorf("%d checks, %v", len(checks), err)
	}
}

func testCluster() *cluster.Cluster { return &cluster.Cluster{Namespace: cluster.DefaultNamespace} }
