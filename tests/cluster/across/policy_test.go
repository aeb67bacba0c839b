// SPDX-License-Identifier: Apache-2.0

package across

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rule is one of a policy about a port: who is allowed, and who denied before that.
type rule struct {
	port        int
	allow, deny string // classes of peers
	named       bool   // the port by its name, which it has for TCP
	kubernetes  bool   // a NetworkPolicy has the rule
}

// rules are the same for both directions. On ports without a rule nobody is allowed.
func rules() []rule {
	return []rule{
		{port: 7000, allow: "friend"},
		{port: 7001, allow: "abroad"},
		{port: 7002, allow: "host"},
		{port: 7003, allow: "remote-node"},
		{port: 7004, allow: "kube-apiserver"},
		{port: 7005, allow: "world"},
		{port: 7006, allow: "cluster"},
		{port: 7007, allow: "unmanaged"},
		{port: 7008, allow: "friend", named: true},
		{port: 7009, allow: "all", deny: "stranger"},
		{port: 7010, allow: "all", deny: "host"},
		{port: 7011, allow: "all", deny: "remote-node"},
		{port: 7012, allow: "abroad", kubernetes: true},
		{port: 7013, allow: "cidr"},
		{port: 7014, allow: "all", deny: "world"},
		{port: 7015},
	}
}

// peers are those of a class in a rule: from or to, in the forms of Weft's policies.
func peers(way, class string) string {
	switch class {
	case "friend", "stranger":
		return fmt.Sprintf("%sEndpoints: [{matchLabels: {app: %s}}]", way, class)
	case "abroad":
		return way + `Endpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": across-abroad}}]`
	case "cidr":
		return way + `CIDR: [192.0.2.2/32, "2001:db8::2/128"]`
	}
	return way + "Entities: [" + class + "]"
}

// policies are the rules as objects, for the pods with a label app.
func policies(direction, way, app string) string {
	var allow, deny strings.Builder
	kubernetes := ""
	for _, r := range rules() {
		port := fmt.Sprintf(`"%d"`, r.port)
		if r.named {
			port = "named"
		}
		if r.kubernetes {
			kubernetes += fmt.Sprintf("  - {%s: [{namespaceSelector: {matchLabels: {team: abroad}}}], ports: [{port: %d, protocol: TCP}, {port: %d, protocol: UDP}]}\n", way, r.port, r.port)
			continue
		}
		for class, to := range map[string]*strings.Builder{r.allow: &allow, r.deny: &deny} {
			if class != "" {
				fmt.Fprintf(to, "  - {%s, toPorts: [{ports: [{port: %s}]}]}\n", peers(way, class), port)
			}
		}
	}
	fmt.Fprintf(&allow, "  - {%s, icmps: [{fields: [{family: IPv4, type: EchoRequest}, {family: IPv6, type: EchoRequest}]}]}\n", peers(way, "friend"))
	if direction == "ingress" { // who asks what came of it
		allow.WriteString("  - {fromEntities: [host], toPorts: [{ports: [{port: \"7100\"}]}]}\n")
	}
	return fmt.Sprintf(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: %[1]s, namespace: across-home}
spec:
  endpointSelector: {matchLabels: {app: %[2]s}}
  %[1]s:
%[3]s  %[1]sDeny:
%[4]s---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %[1]s-too, namespace: across-home}
spec:
  podSelector: {matchLabels: {app: %[2]s}}
  policyTypes: [%[5]s]
  %[1]s:
%[6]s`, direction, app, allow.String(), deny.String(), strings.ToUpper(direction[:1])+direction[1:], kubernetes)
}

// other is who a subject of policies deals with.
type other struct {
	caller
	name    string // as flows have it
	ips     [2]string
	classes [2][]string // by family, as the subject's node sees it
}

// peersOf is everybody but the subject.
func (c *town) peersOf(subject *pod) []other {
	all := make([]other, 0, len(c.pods)+2)
	for name, p := range c.pods {
		if p == subject || name == "server1" || name == "caller1" || name == "server2" {
			continue
		}
		o := other{caller: c.pod(p), name: p.full(), ips: [2]string{p.IPv4, p.IPv6}}
		class := []string{strings.TrimRight(name, "123"), "cluster", "all"}
		switch {
		case p.host && p.Node == subject.Node:
			o.name, class[0] = "host", "host"
		case p.host:
			o.name, class[0] = "remote-node", "remote-node"
		case p.Namespace == abroad:
			class[0] = "abroad"
		}
		o.classes = [2][]string{class, class}
		all = append(all, o)
	}
	world := []string{"world", "cidr", "all"}
	return append(all,
		other{caller: c.machine("outside", c.Outside), name: "world", ips: [2]string{outsideIP(false), outsideIP(true)}, classes: [2][]string{world, world}},
		other{caller: c.machine("apiserver", c.Router), name: "kube-apiserver", ips: [2]string{routerIP(false), routerIP(true)},
			classes: [2][]string{{"kube-apiserver", "cluster", "all"}, {"world", "all"}}})
}

// decided is a call, and what has to become of it.
type decided struct {
	by      caller
	attempt attempt
	who     string // answers, if it is allowed
	refused string // why and by whom; empty: it is allowed
	told    told   // where that is told
	peer    string // and the other side's name there
	from    bool   // the other side is the one that calls
}

// judge is what rules say about a peer, a protocol and a port; 0: a ping.
func judge(direction, proto string, port int, classes []string) string {
	byDefault := fmt.Sprintf("POLICY_DEFAULT: NetworkPolicy %s/%s-too, WeftNetworkPolicy %s/%s", home, direction, home, direction)
	host := direction == "ingress" && slices.Contains(classes, "host") // a node may always reach its pods
	if port == 0 {
		if host || slices.Contains(classes, "friend") {
			return ""
		}
		return byDefault
	}
	denies := 0
	for _, r := range rules() {
		if r.port == port && slices.Contains(classes, r.deny) {
			return fmt.Sprintf("POLICY_DENY: WeftNetworkPolicy %s/%s %sDeny[%d]", home, direction, direction, denies)
		}
		if r.port == port && (host || slices.Contains(classes, r.allow) && (proto == "tcp" || !r.named)) {
			return ""
		}
		if r.deny != "" {
			denies++
		}
	}
	return byDefault
}

// ingress judges who calls the server of node 2, and egress whom the caller of node 1 calls.
func ingress(c *town) { c.judged("ingress", "from", c.pods["server2"]) }
func egress(c *town)  { c.judged("egress", "to", c.pods["caller1"]) }

func (c *town) judged(direction, way string, subject *pod) {
	c.T.Helper()
	c.Apply(policies(direction, way, strings.TrimRight(subject.Name, "12")))
	c.T.Cleanup(func() { c.Drop("networkpolicy,weftnetworkpolicy --all -n " + home) })
	by := make(map[string][]decided)
	for _, o := range c.peersOf(subject) {
		for _, d := range c.calls(direction, subject, o) {
			by[d.by.name] = append(by[d.by.name], d)
		}
	}
	var all [][]decided
	for _, calls := range by {
		all = append(all, calls)
	}
	// Who may come does not change with the second policy; who is named for it does. So all
	// is asked again until that is right, too.
	c.Eventually(2*settle, "as the rules say, and told so", func() error {
		since := time.Now()
		var wrong []string
		for _, err := range each(all, c.tried) {
			if err != nil {
				wrong = append(wrong, err.Error())
			}
		}
		if wrong != nil {
			return fmt.Errorf("%d of %d callers: %s", len(wrong), len(all), strings.Join(wrong, "\n"))
		}
		// For less time than it would take to settle.
		return c.Until(settle/3, func() error { return c.toldAll(slices.Concat(all...), since) })
	})
}

// calls are all between the subject and one other.
func (c *town) calls(direction string, subject *pod, o other) []decided {
	var all []decided
	for family, ip := range o.ips {
		six := family == 1
		d := decided{by: c.pod(subject), who: o.caller.name, from: direction == "ingress",
			told: told{node: c.Node(subject.Node).Name(), direction: direction, from: subject.ip(six), to: ip}}
		if d.from {
			d.by, d.who, d.told.from, d.told.to = o.caller, subject.Name, ip, subject.ip(six)
		}
		if d.peer = o.name; slices.Contains(o.classes[family], "cidr") {
			d.peer = "cidr:" + ip
		} else if slices.Contains(o.classes[family], "world") {
			d.peer = "world"
		}
		for _, proto := range []string{"tcp", "udp", "ping"} {
			for _, r := range rules() {
				e := d
				e.attempt = attempt{Proto: proto, To: at(d.told.to, r.port), Wait: 1500 * time.Millisecond}
				e.told.protocol, e.told.port = proto, r.port
				if proto == "ping" {
					e.attempt.To, e.attempt.Size, e.told.port, e.who = d.told.to, 84, 0, d.told.to
					e.told.protocol = map[bool]string{false: "icmp", true: "icmpv6"}[six]
				}
				e.refused = judge(direction, proto, e.told.port, o.classes[family])
				all = append(all, e)
				if proto == "ping" {
					break
				}
			}
		}
	}
	return all
}

// tried has one caller make its calls.
func (c *town) tried(calls []decided) error {
	var attempts []attempt
	for _, d := range calls {
		attempts = append(attempts, d.attempt)
	}
	answers, err := c.try(calls[0].by, attempts)
	if err != nil {
		return err
	}
	var wrong []string
	for i, d := range calls {
		if a := answers[i]; d.refused == "" && (a.Error != "" || a.Who != d.who) || d.refused != "" && a.Error != "timeout" {
			wrong = append(wrong, fmt.Sprintf("%s %s: %+v; refused by %q", d.attempt.Proto, d.attempt.To, a, d.refused))
		}
	}
	if wrong != nil {
		return fmt.Errorf("%s, %d of %d calls:\n%s", calls[0].by.name, len(wrong), len(calls), strings.Join(wrong[:min(len(wrong), 12)], "\n"))
	}
	return nil
}

// toldAll looks for the event of every refused call, and for any of one that is allowed.
func (c *town) toldAll(calls []decided, since time.Time) error {
	seen := make(map[told]flow)
	for _, f := range c.dropped(since) {
		seen[f.told()] = f
	}
	var wrong []string
	refused := 0
	for _, d := range calls {
		f, ok := seen[d.told]
		switch {
		case d.refused == "" && ok:
			wrong = append(wrong, fmt.Sprintf("%+v was dropped: %s", d.told, f.because()))
		case d.refused == "":
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%+v is not told", d.told))
		default:
			refused++
			if peer := peerOf(f, d.from).who(); f.because() != d.refused || peer != d.peer && !strings.Contains(peer, d.peer) {
				wrong = append(wrong, fmt.Sprintf("%+v: %q, %q; want %q, %q", d.told, f.because(), peer, d.refused, d.peer))
			}
		}
	}
	if wrong != nil {
		return fmt.Errorf("%d of %d:\n%s", len(wrong), len(calls), strings.Join(wrong[:min(len(wrong), 12)], "\n"))
	}
	c.T.Logf("%d calls, of which %d were refused, and told with rule and names", len(calls), refused)
	return nil
}

func peerOf(f flow, from bool) side {
	if from {
		return f.Source
	}
	return f.Destination
}
