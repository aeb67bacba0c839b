// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long a probe may take: one that should be answered, and one that should not
// and costs this much each time.
const (
	answerIn = 2 * time.Second
	denyIn   = time.Second
)

// check is one call and what should become of it.
type check struct {
	name    string
	variant string // family and protocol: checks of one name are reported as one
	from    caller
	probe   Probe
	denied  bool // nobody may answer
	// unresolved: the name may not be resolved, which a resolver tells in its own words.
	unresolved bool
	answer     []string // of whom one must; none: anybody
}

// caller is where a call comes from: a pod, or the node that an agent's pod stands for.
type caller struct {
	namespace, pod, container string
	fault                     string // why it cannot call
}

func (p *Pod) caller() caller { return caller{p.Namespace, p.Name, container, p.Fault} }

// step is what is tried at a time: objects that are made before, and checks that
// must all hold at once.
type step struct {
	name    string
	objects []metav1.Object
	restore bool // take out all objects first
	checks  []check
	// also is what calls alone do not show.
	also func(context.Context, *runner, *testRun) []Result
}

// Test is one that can be chosen by name.
type Test struct {
	Name, About string
	// skip says why the test cannot be done here, or "".
	skip  func(*stage) string
	steps func(*stage) []step
}

func hostPort(addr netip.Addr, port int) string {
	return net.JoinHostPort(addr.String(), strconv.Itoa(port))
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return 4
	}
	return 6
}

func variant(family int, protocol string) string {
	return strings.TrimSpace(fmt.Sprintf("IPv%d %s", family, protocol))
}

// reach is calls to a pod by TCP and UDP, over each family.
func reach(from caller, who string, to *Pod) []check {
	out := []check{}
	for _, addr := range to.IPs {
		out = append(out,
			check{name: who + " to " + to.Name, variant: variant(family(addr), "TCP"), from: from, answer: []string{to.key()},
				probe: Probe{Kind: KindHTTP, Family: family(addr), Address: hostPort(addr, portTCP), Timeout: answerIn}},
			check{name: who + " to " + to.Name, variant: variant(family(addr), "UDP"), from: from, answer: []string{to.key()},
				probe: Probe{Kind: KindUDP, Family: family(addr), Address: hostPort(addr, portUDP), Timeout: answerIn}})
	}
	return absent(out, from, who, to)
}

// absent is one check that says why the pod cannot be called, if it has no address.
func absent(checks []check, from caller, who string, to *Pod) []check {
	if len(to.IPs) > 0 {
		return checks
	}
	from.fault = "pod " + to.key() + " on node " + to.Node + " is not ready: " + to.Fault
	return []check{{name: who + " to " + to.Name, from: from, probe: Probe{Kind: KindHTTP}}}
}

// deny makes calls that must not be answered of those that must.
func deny(checks []check) []check {
	out := slices.Clone(checks)
	for i := range out {
		out[i].denied, out[i].answer, out[i].probe.Timeout = true, nil, denyIn
		out[i].name += ", denied"
	}
	return out
}

// port changes the port that TCP goes to.
func port(checks []check, port int) []check {
	var out []check
	for _, c := range checks {
		if c.probe.Kind != KindHTTP {
			continue
		}
		if host, _, err := net.SplitHostPort(c.probe.Address); err == nil {
			c.probe.Address = net.JoinHostPort(host, strconv.Itoa(port))
		}
		c.name += " port " + strconv.Itoa(port)
		out = append(out, c)
	}
	return out
}

// ofKind keeps one kind of calls.
func ofKind(checks []check, kind string) []check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return c.probe.Kind != kind })
}

// toServers calls the servers from a pod.
func (s *stage) toServers(from *Pod) []check {
	var out []check
	for _, to := range s.servers() {
		out = append(out, reach(from.caller(), from.Name, to)...)
	}
	return out
}

// judge compares; the result is empty if all is as it should be.
func (c check) judge(o Outcome) (expected, happened string) {
	switch {
	case c.denied:
		expected = "no answer"
		if o.Failure == FailTimeout {
			return "", ""
		}
	case c.unresolved:
		expected = "no answer"
		if o.Failure != "" {
			return "", ""
		}
	case len(c.answer) > 0:
		expected = "an answer from " + strings.Join(c.answer, " or ")
		if c.probe.Kind == KindDNS {
			expected = "the addresses " + strings.Join(c.answer, " or ")
		}
		if o.Failure == "" && slices.Contains(c.answer, o.Answer) {
			return "", ""
		}
	default:
		expected = "an answer"
		if o.Failure == "" {
			return "", ""
		}
	}
	return expected, o.text(c.probe)
}

// text is what happened, for people.
func (o Outcome) text(p Probe) string {
	switch o.Failure {
	case "":
		return "answered: " + o.Answer
	case FailTimeout:
		return fmt.Sprintf("no answer from %s within %v", p.Address, p.Timeout)
	case FailRefused:
		return "refused by " + p.Address
	}
	return o.Detail
}
