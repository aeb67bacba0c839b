// SPDX-License-Identifier: Apache-2.0

package across

import (
	"fmt"
	"strings"

	"github.com/weftmesh/weft/tests/cluster"
)

// tunnelPort is that of VXLAN; identities that stand for no pod.
const (
	tunnelPort = 4789

	idHost       = 1
	idRemoteNode = 2
	idWorldIPv4  = 3
	idUnknown    = 9
)

// bareInTunnelMode are packets without the tunnel: no pod's address is believed.
func (c *town) bareInTunnelMode() []forgery {
	send, server := c.stranger(2), c.pods["server2"]
	var all []forgery
	for _, six := range []bool{false, true} {
		of := func(from string, port int) frame { return frame{Outer: datagram(from, 4000, server.ip(six), port)} }
		nobody := "10.244.200.9"
		if six {
			nobody = "fd00:10:244:c8::9"
		}
		all = append(all,
			forgery{"bare, from a pod of another node", send, of(c.pods["friend1"].ip(six), 7000), 2, "BARE_POD"},
			forgery{"bare, from a pod of this node", send, of(c.pods["friend2"].ip(six), 7000), 2, "BARE_POD"},
			forgery{"bare, from no pod, but of the range of another node", send, of(c.unused(1, six), 7000), 2, "BARE_POD"},
			forgery{"bare, from the cluster's range, where the world may come", send, of(nobody, 7005), 2, "POLICY_DEFAULT"},
			forgery{"bare, from the world, which may come", send, of(map[bool]string{false: cluster.StrangerIPv4, true: cluster.StrangerIPv6}[six], 7005), 2, ""},
			forgery{"bare, on the flow of a pod", send, c.open(c.pods["friend1"], server, six), 2, "BARE_POD"})
	}
	return all
}

// unused is an address of a node's range that no pod has.
func (c *town) unused(n int, six bool) string {
	for _, p := range c.pods {
		if p.Node == n && !p.host && strings.Contains(p.ip(six), ":") == six {
			if six {
				return p.ip(six)[:strings.LastIndex(p.ip(six), ":")+1] + "ffee"
			}
			return p.ip(six)[:strings.LastIndex(p.ip(six), ".")+1] + "250"
		}
	}
	c.T.Fatalf("node %d has no pods", n)
	return ""
}

// open opens a flow from one pod to another, and gives what looks like its next packet.
func (c *town) open(from, to *pod, six bool) frame {
	c.T.Helper()
	next := datagram(from.ip(six), 5000, to.ip(six), 7000)
	first := next
	first.Payload = "hello"
	if err := c.by(from)(frame{How: "raw", Outer: first}); err != nil {
		c.T.Fatal(err)
	}
	return frame{Outer: next}
}

// identity is a pod's number.
func (c *town) identity(p *pod) int {
	c.T.Helper()
	list := decode[struct {
		Nodes []struct {
			Endpoints []struct {
				Namespace, Pod string
				Identity       int
			}
		}
	}](c.T, c.Shell("weft endpoint list -o json --node "+c.Node(p.Node).Name()))
	for _, e := range list.Nodes[0].Endpoints {
		if e.Namespace+"/"+e.Pod == p.full() {
			return e.Identity
		}
	}
	c.T.Fatalf("%s has no endpoint", p.full())
	return 0
}

// tunnelled are frames of the tunnel, from a stranger: as it is, and with the address of
// a node, as which only the frames' insides can be wrong.
func (c *town) tunnelled() []forgery {
	send, server, friend := c.stranger(2), c.pods["server2"], c.pods["friend1"]
	id := c.identity(friend)
	in := func(outer, to string, vni int, inner packet) frame {
		return frame{Outer: datagram(outer, 4000, to, tunnelPort), VNI: vni, Inner: inner}
	}
	node2 := nodeIP(c.Node(2), false)
	all := []forgery{{"by IPv6, from a stranger", send,
		in(cluster.StrangerIPv6, nodeIP(c.Node(2), true), id, datagram(friend.IPv4, 4000, server.IPv4, 7000)), 2, "TUNNEL_PEER"}}
	for _, six := range []bool{false, true} {
		to := server.ip(six)
		of := func(n int, vni int, inner packet) frame { return in(nodeIP(c.Node(n), false), node2, vni, inner) }
		world := "198.51.100.7"
		if six {
			world = "2001:db8:1::7"
		}
		flow := c.open(friend, server, six).Outer
		all = append(all,
			forgery{"from a stranger", send, in(cluster.StrangerIPv4, node2, id, datagram(friend.ip(six), 4000, to, 7000)), 2, "TUNNEL_PEER"},
			forgery{"from the node itself", send, in("127.0.0.1", node2, id, datagram(friend.ip(six), 4000, to, 7000)), 2, "TUNNEL_PEER"},
			forgery{"from node 3, of a pod of node 1", send, of(3, id, datagram(friend.ip(six), 4000, to, 7000)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 3, on the flow of a pod of node 1", send, of(3, id, flow), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of a pod of node 2", send, of(1, id, datagram(c.pods["friend2"].ip(six), 4000, to, 7000)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of the world with a pod's identity", send, of(1, id, datagram(world, 4000, to, 7000)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of the world", send, of(1, idWorldIPv4, datagram(world, 4000, to, 7005)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of a pod that says it is host", send, of(1, idHost, datagram(friend.ip(six), 4000, to, 7002)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of a pod that says it is a node", send, of(1, idRemoteNode, datagram(friend.ip(six), 4000, to, 7003)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of a pod that says it is unknown", send, of(1, idUnknown, datagram(friend.ip(six), 4000, to, 7006)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of itself with a pod's identity", send, of(1, id, datagram(nodeIP(c.Node(1), six), 4000, to, 7000)), 2, "TUNNEL_SOURCE"},
			forgery{"from node 1, of the host itself", send, of(1, idRemoteNode, datagram(node2, 4000, server.IPv4, 7002)), 2, "TUNNEL_SOURCE"},
			forgery{"to a pod of another node", send, of(1, id, datagram(friend.ip(six), 4000, c.unused(1, six), 7000)), 2, "TUNNEL_TARGET"},
			forgery{"to the world", send, of(1, id, datagram(friend.ip(six), 4000, outsideIP(six), 7000)), 2, "TUNNEL_TARGET"},
			forgery{"of an identity that nobody knows", send, of(1, 1<<24-1, datagram(friend.ip(six), 4000, to, 7000)), 2, "POLICY_DEFAULT"},
			forgery{"as a node would send it", send, of(1, id, datagram(friend.ip(six), 4000, to, 7000)), 2, ""})
	}
	return all
}

// fromPods are frames of the tunnel that pods make, by sockets that no hook sees: to a
// node, by a service, and on the way out, where they would bear the node's address.
func (c *town) fromPods() []forgery {
	pod, server := c.pods["stranger1"], c.pods["server2"]
	id, send := c.identity(c.pods["friend1"]), c.by(pod)
	service := c.tunnelService()
	var all []forgery
	for _, six := range []bool{false, true} {
		for name, to := range map[string]string{"to its own node": nodeIP(c.Node(1), six), "to another node": nodeIP(c.Node(2), six),
			"by a service": service[six], "outside": outsideIP(six), "to the router": routerIP(six)} {
			f := frame{How: "raw", Outer: datagram(pod.ip(six), 4000, to, tunnelPort), VNI: id, Inner: datagram(c.pods["friend1"].ip(six), 4000, server.ip(six), 7000)}
			all = append(all, forgery{"from a pod, " + name, send, f, 1, "TUNNEL_PORT"})
		}
	}
	return all
}

// tunnelService leads to the tunnel's port of node 2; its addresses by family.
func (c *town) tunnelService() map[bool]string {
	c.T.Helper()
	ports := fmt.Sprintf("ports: [{name: tunnel, port: %d, protocol: UDP}]", tunnelPort)
	yaml := "apiVersion: v1\nkind: Service\nmetadata: {name: tunnel, namespace: across-home}\nspec:\n  ipFamilyPolicy: RequireDualStack\n  " + ports + "\n"
	for family, ip := range map[string]string{"IPv4": nodeIP(c.Node(2), false), "IPv6": nodeIP(c.Node(2), true)} {
		yaml += fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: tunnel-%s, namespace: across-home, labels: {kubernetes.io/service-name: tunnel}}\n"+
			"addressType: %s\n%s\nendpoints: [{addresses: [\"%s\"], conditions: {ready: true}}]\n", strings.ToLower(family), family, ports, ip)
	}
	c.Apply(yaml)
	c.T.Cleanup(func() { c.Drop("service,endpointslice tunnel tunnel-ipv4 tunnel-ipv6 -n " + home) })
	ips := c.ServiceIPs(home, "tunnel")
	c.Shell("weft status --wait")
	return map[bool]string{false: ips[0], true: ips[1]}
}

// refusedToProcesses: ordinary sockets get an error at once, in pods and on hosts; a
// pod may have a tunnel of its own to another.
func (c *town) refusedToProcesses() {
	c.T.Helper()
	service := c.tunnelService()
	for _, p := range []*pod{c.pods["stranger1"], c.pods["host1"]} {
		for _, how := range []string{"udp", "message"} {
			for _, six := range []bool{false, true} {
				for _, to := range []string{nodeIP(c.Node(1), six), nodeIP(c.Node(2), six), service[six]} {
					if err := c.by(p)(frame{How: how, Outer: datagram("::", 0, to, tunnelPort)}); err == nil || err.Error() != "refused" && err.Error() != "not permitted" {
						c.T.Errorf("%s sends to %s by %s: %v", p.Name, to, how, err)
					}
				}
			}
		}
	}
	friend := c.pods["friend2"]
	for _, six := range []bool{false, true} {
		answers, err := c.try(c.pod(c.pods["stranger1"]), []attempt{{Proto: "udp", To: at(friend.ip(six), tunnelPort)}})
		if err != nil || answers[0].Error != "refused" {
			c.T.Errorf("from pod to pod the port is like any other: %+v, %v", answers, err)
		}
	}
}
