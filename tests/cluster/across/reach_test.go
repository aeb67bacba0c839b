// SPDX-License-Identifier: Apache-2.0

package across

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// services lead to a pod of node 1, of node 2, to the hosts' networks, and to two pods.
func services() string {
	one := func(name, spec, selector string) string { return fmt.Sprintf(service, name, spec, selector) }
	return one("near", "type: ClusterIP", "who: friend1") + one("far", "type: ClusterIP", "who: friend2") +
		one("hosts", "type: ClusterIP", "app: host") + one("friends", "clusterIP: None", "app: friend")
}

const service = `
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: across-home}
spec:
  %s
  ipFamilyPolicy: RequireDualStack
  selector: {%s}
  ports: [{name: tcp, port: 80, targetPort: 7000, protocol: TCP}, {name: udp, port: 80, targetPort: 7000, protocol: UDP}]
---
`

// want is an attempt and who may answer it, and who is to be seen there; empty: whoever.
type want struct {
	attempt
	who []string
	saw string
}

// reached has pods and hosts call everybody in every way, and somebody outside the
// pods that have ports of nodes.
func reached(c *town) {
	c.T.Helper()
	for _, from := range []*pod{c.pods["stranger1"], c.pods["host1"], c.pods["guest2"], c.pods["host3"]} {
		c.reaches(c.pod(from), c.wants(from))
	}
	c.reaches(c.machine("outside", c.Outside), append(c.byHostPort(false, outsideIP(false)), c.byHostPort(true, outsideIP(true))...))
}

// reaches waits until a caller gets the answers that it is to get.
func (c *town) reaches(from caller, wants []want) {
	c.T.Helper()
	var attempts []attempt
	for _, w := range wants {
		attempts = append(attempts, w.attempt)
	}
	begun, first := time.Now(), error(nil)
	c.Eventually(settle, from.name+" reaches everybody", func() (err error) {
		defer func() {
			if first == nil {
				first = err
			}
		}()
		answers, err := c.try(from, attempts)
		if err != nil {
			return err
		}
		var wrong []string
		for i, a := range answers {
			if w := wants[i]; a.Error != "" || len(w.who) > 0 && !slices.Contains(w.who, a.Who) || w.saw != "" && a.Saw != w.saw {
				wrong = append(wrong, fmt.Sprintf("%s %s: want %v seen as %q, got %+v", w.Proto, w.To, w.who, w.saw, a))
			}
		}
		if wrong != nil {
			return fmt.Errorf("%d of %d:\n%s", len(wrong), len(wants), strings.Join(wrong, "\n"))
		}
		return nil
	})
	c.T.Logf("%s reached %d targets after %.1f s", from.name, len(wants), time.Since(begun).Seconds())
	if first != nil {
		c.T.Logf("at first not: %v", first)
	}
}

func (c *town) wants(from *pod) []want {
	var all []want
	for _, six := range []bool{false, true} {
		for _, p := range c.pods {
			all = append(all, c.direct(p, from, six)...)
		}
		all = append(all, c.byService(from, six)...)
		all = append(all, c.byHostPort(six, "")...)
		saw := nodeIP(c.Node(from.Node), six)
		all = append(all, want{attempt: attempt{Proto: "http", To: "http://" + at(outsideIP(six), 8080) + "/clientip"}, who: []string{"200 OK"}, saw: saw},
			want{attempt: attempt{Proto: "udp", To: at(outsideIP(six), firstPort)}, who: []string{"outside"}, saw: saw},
			want{attempt: attempt{Proto: "ping", To: outsideIP(six), Size: 84}})
	}
	return append(all, want{attempt: attempt{Proto: "tls", To: "10.96.0.1:443"}}, want{attempt: attempt{Proto: "tls", To: at(routerIP(false), 6443)}},
		want{attempt: attempt{Proto: "dns", To: "kubernetes.default.svc.cluster.local.", Via: "10.96.0.10:53"}, who: []string{"10.96.0.1"}},
		want{attempt: attempt{Proto: "dns", To: "kubernetes.default.svc.cluster.local.", Via: "[fd00:10:96::a]:53"}, who: []string{"10.96.0.1"}})
}

// direct is a pod by its address; it sees the caller's own.
func (c *town) direct(p, from *pod, six bool) []want {
	saw := from.ip(six)
	if p == from || p.host && from.host && p.Node == from.Node {
		saw = p.ip(six)
	}
	return []want{
		{attempt: attempt{Proto: "tcp", To: at(p.ip(six), firstPort)}, who: []string{p.Name}, saw: saw},
		{attempt: attempt{Proto: "udp", To: at(p.ip(six), firstPort), Size: 100}, who: []string{p.Name}, saw: saw},
		{attempt: attempt{Proto: "ping", To: p.ip(six), Size: 84}},
	}
}

// byHostPort is a pod by a port of its node's, where it sees the caller's own address.
func (c *town) byHostPort(six bool, saw string) []want {
	to := at(nodeIP(c.Node(2), six), hostPort)
	return []want{
		{attempt: attempt{Proto: "tcp", To: to}, who: []string{"friend2"}, saw: saw},
		{attempt: attempt{Proto: "udp", To: to, Size: 100}, who: []string{"friend2"}, saw: saw},
	}
}

// byService are the services by their addresses and names.
func (c *town) byService(from *pod, six bool) []want {
	var all []want
	hosts := []string{"host1", "host2", "host3"}
	for name, who := range map[string][]string{"near": {"friend1"}, "far": {"friend2"}, "hosts": hosts} {
		ip := c.serviceIP(name, six)
		saw := from.ip(six)
		all = append(all, want{attempt: attempt{Proto: "tcp", To: at(ip, 80)}, who: who, saw: saw},
			want{attempt: attempt{Proto: "udp", To: at(ip, 80), Size: 100}, who: who, saw: saw})
		ips := []string{c.serviceIP(name, false), c.serviceIP(name, true)}
		slices.Sort(ips)
		all = append(all, c.named(name, strings.Join(ips, ","), six))
	}
	ips := []string{c.pods["friend1"].IPv4, c.pods["friend1"].IPv6, c.pods["friend2"].IPv4, c.pods["friend2"].IPv6}
	slices.Sort(ips)
	return append(all, c.named("friends", strings.Join(ips, ","), six))
}

// named asks the DNS, by its address of a family.
func (c *town) named(name, ips string, six bool) want {
	via := "10.96.0.10:53"
	if six {
		via = "[fd00:10:96::a]:53"
	}
	return want{attempt: attempt{Proto: "dns", To: name + "." + home + ".svc.cluster.local.", Via: via}, who: []string{ips}}
}
