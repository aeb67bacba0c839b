// SPDX-License-Identifier: Apache-2.0

package across

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// packet and frame see Packet and Frame of the program probe.
type packet struct {
	From, To netip.AddrPort
	Payload  string
}

type frame struct {
	How, Device, MAC string
	Outer            packet
	VNI              int
	Inner            packet
	Times            int
}

// The mark of datagrams that nobody should receive, and how often each is sent.
const (
	mark  = "forged"
	again = 5
)

// forgery is a frame, who sends it, and what becomes of it.
type forgery struct {
	name   string
	send   func(frame) error
	frame  frame
	node   int    // where it is counted
	reason string // why it is dropped; empty: it arrives
}

// datagram is one with the mark.
func datagram(from string, sport int, to string, port int) packet {
	return packet{From: endpoint(from, sport), To: endpoint(to, port), Payload: mark}
}

func endpoint(ip string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port)) //nolint:gosec // a port
}

// stranger gives a way to send from the network of the nodes as if by anybody, to a node.
func (c *town) stranger(n int) (send func(frame) error) {
	c.T.Helper()
	if err := c.StartStranger(); err != nil {
		c.T.Fatal(err)
	}
	mac := strings.TrimSpace(c.On(n, "cat /sys/class/net/eth0/address"))
	return func(f frame) error {
		f.How, f.Device, f.MAC = "device", "eth0", mac
		return framework.Said(c.Stranger(c.T.Context(), c.Program("probe")+" send "+quoted(f)))
	}
}

// by gives a way to send from a pod.
func (c *town) by(p *pod) (send func(frame) error) {
	return func(f frame) error {
		out, err := c.tell(c.T.Context(), p, "send", strings.Trim(quoted(f), "'"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if a := decode[answer](c.T, out); a.Error != "" {
			return errors.New(a.Error)
		}
		return nil
	}
}

// marks is how many datagrams with the mark a pod has received.
func (c *town) marks(p *pod) int {
	c.T.Helper()
	out, err := c.tell(c.T.Context(), p, "seen", "{}")
	if err != nil {
		c.T.Fatal(err)
	}
	return decode[map[string]int](c.T, out)[mark]
}

// forge sends it several times: all of them are counted as dropped, and none arrives; or
// all arrive.
func (c *town) forge(to *pod, f forgery) {
	c.T.Helper()
	dropped, arrived := c.drops(f.node)[f.reason], c.marks(to)
	f.frame.Times = again
	if err := f.send(f.frame); err != nil {
		c.T.Fatalf("%s: %v", f.name, err)
	}
	if f.reason == "" {
		c.Eventually(10*time.Second, f.name+": arrived", func() error {
			if n := c.marks(to) - arrived; n != again {
				return fmt.Errorf("%d of %d", n, again)
			}
			return nil
		})
		return
	}
	c.Eventually(10*time.Second, f.name+": counted as "+f.reason, func() error {
		all := c.drops(f.node)
		if n := all[f.reason] - dropped; n < again {
			return fmt.Errorf("%d of %d; all: %v", n, again, all)
		}
		return nil
	})
	if n := c.marks(to) - arrived; n != 0 {
		c.T.Errorf("%s: %d arrived", f.name, n)
	}
	c.T.Logf("%s: %s", f.name, f.reason)
}

// forged sends what nobody should believe. The rules of the server are in force.
func forged(c *town) {
	c.T.Helper()
	server := c.pods["server2"]
	c.Apply(policies("ingress", "from", "server"))
	c.T.Cleanup(func() { c.Drop("networkpolicy,weftnetworkpolicy --all -n " + home) })
	c.Eventually(settle, "isolated", func() error {
		answers, err := c.try(c.pod(c.pods["stranger1"]), []attempt{{Proto: "tcp", To: at(server.IPv4, 7000)}, {Proto: "tcp", To: at(server.IPv6, 7012)}})
		if err == nil && (answers[0].Error != "timeout" || answers[1].Error != "timeout") {
			return fmt.Errorf("%+v", answers)
		}
		return err
	})
	all := c.bare()
	if c.tunnel {
		all = append(c.bareInTunnelMode(), c.tunnelled()...)
		all = append(all, c.fromPods()...)
		c.refusedToProcesses()
	}
	for _, f := range all {
		c.forge(server, f)
	}
}

// bare are packets without a tunnel, in native mode: an address is believed, but for one
// of the receiving node's own pods; one that nobody has is unknown, not the world.
func (c *town) bare() []forgery {
	send, server := c.stranger(2), c.pods["server2"]
	var all []forgery
	for _, six := range []bool{false, true} {
		to, nobody, spoofed := server.ip(six), "10.244.200.9", "SPOOFED_IPV4"
		if six {
			nobody, spoofed = "fd00:10:244:c8::9", "SPOOFED_IPV6"
		}
		of := func(from string, port int) frame { return frame{Outer: datagram(from, 4000, to, port)} }
		all = append(all,
			forgery{"a pod of this node, from outside", send, of(c.pods["friend2"].ip(six), 7000), 2, spoofed},
			forgery{"an address that nobody has, where the world may come", send, of(nobody, 7005), 2, "POLICY_DEFAULT"},
			forgery{"an address that nobody has, where some pods may not come", send, of(nobody, 7009), 2, "POLICY_DENY"},
			forgery{"an address that nobody has, where the cluster may come", send, of(nobody, 7006), 2, ""},
			forgery{"a pod of another node that may not come", send, of(c.pods["stranger1"].ip(six), 7000), 2, "POLICY_DEFAULT"},
			forgery{"a pod of another node that may come", send, of(c.pods["friend1"].ip(six), 7000), 2, ""},
			forgery{"the world", send, of(map[bool]string{false: cluster.StrangerIPv4, true: cluster.StrangerIPv6}[six], 7005), 2, ""})
	}
	return all
}
