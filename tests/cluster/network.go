// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses, the same in every cluster.
const (
	controlPlaneIPv4 = "172.30.0.1"
	controlPlaneIPv6 = "fd00:172:30::1"
	worldGateIPv4    = "192.0.2.1"
	worldGateIPv6    = "2001:db8::1"
	// OutsideIPv4 and OutsideIPv6 are a host that is no part of the cluster.
	OutsideIPv4 = "192.0.2.2"
	OutsideIPv6 = "2001:db8::2"

	podRanges     = "10.244.0.0/16,fd00:10:244::/56"
	serviceRanges = "10.96.0.0/16,fd00:10:96::/112"
	clusterDNS    = "10.96.0.10"

	// APIServer is where nodes, and pods in their network, reach the API server,
	// with and without Weft.
	APIServer = controlPlaneIPv4 + ":6443"
	// RouterIPv4 and RouterIPv6 are the router between nodes and the world, where the API server is.
	RouterIPv4    = controlPlaneIPv4
	RouterIPv6    = controlPlaneIPv6
	apiServer     = "https://" + APIServer
	underlay      = "underlay"
	nodeInterface = "eth0"
)

func nodeIPv4(n int) string { return fmt.Sprintf("172.30.0.%d", 10+n) }
func nodeIPv6(n int) string { return fmt.Sprintf("fd00:172:30::%d", 10+n) }

// inside works on links in the network namespace of a process.
type inside struct {
	*netlink.Handle
	ns *os.File
}

func enterNetwork(pid int) (*inside, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("opening a network namespace: %w", err)
	}
	handle, err := netlink.NewHandleAt(nsHandle(ns), unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, fmt.Errorf("entering a network namespace: %w", err)
	}
	return &inside{Handle: handle, ns: ns}, nil
}

func (i *inside) close() {
	i.Close()
	_ = i.ns.Close()
}

// makeUnderlay gives the control plane the bridge that nodes are plugged into.
func makeUnderlay(pid int) error {
	in, err := enterNetwork(pid)
	if err != nil {
		return err
	}
	defer in.close()
	if err := in.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: underlay}}); err != nil {
		return fmt.Errorf("making the underlay: %w", err)
	}
	return in.configure(underlay, controlPlaneIPv4+"/24", controlPlaneIPv6+"/64")
}

// cable is a link between the control plane and another machine.
type cable struct {
	name      string   // at the control plane
	addresses []string // there; none: it is plugged into the underlay
	peer      []string // addresses at the other end
	gateways  []string // routers of the other end
}

func nodeCable(n int) cable {
	return cable{name: fmt.Sprintf("n%d", n), peer: []string{nodeIPv4(n) + "/24", nodeIPv6(n) + "/64"},
		gateways: []string{controlPlaneIPv4, controlPlaneIPv6}}
}

func worldCable() cable {
	return cable{name: "world", addresses: []string{worldGateIPv4 + "/24", worldGateIPv6 + "/64"},
		peer: []string{OutsideIPv4 + "/24", OutsideIPv6 + "/64"}, gateways: []string{worldGateIPv4, worldGateIPv6}}
}

// lay connects the machines with these first processes.
func (c cable) lay(controlPlane, other int) error {
	near, err := enterNetwork(controlPlane)
	if err != nil {
		return err
	}
	defer near.close()
	far, err := enterNetwork(other)
	if err != nil {
		return err
	}
	defer far.close()
	// What a machine that was switched off has left goes when its namespace does.
	if old, err := near.LinkByName(c.name); err == nil {
		_ = near.LinkDel(old)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: c.name}, PeerName: nodeInterface,
		PeerNamespace: netlink.NsFd(far.ns.Fd()), PeerHardwareAddr: macOf(c.name)}
	if err := near.LinkAdd(veth); err != nil {
		return fmt.Errorf("making link %s: %w", c.name, err)
	}
	if len(c.addresses) == 0 {
		bridge, err := near.LinkByName(underlay)
		if err != nil {
			return fmt.Errorf("finding the underlay: %w", err)
		}
		if err := near.LinkSetMaster(veth, bridge); err != nil {
			return fmt.Errorf("plugging %s into the underlay: %w", c.name, err)
		}
	}
	if err := near.configure(c.name, c.addresses...); err != nil {
		return err
	}
	if err := far.configure(nodeInterface, c.peer...); err != nil {
		return err
	}
	return far.route(c.gateways)
}

// configure gives a link its addresses and brings it up.
func (i *inside) configure(name string, addresses ...string) error {
	link, err := i.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	for _, a := range addresses {
		address, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
		if address.IP.To4() == nil {
			address.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := i.AddrAdd(link, address); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", name, a, err)
		}
	}
	if err := i.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing %s up: %w", name, err)
	}
	return nil
}

func (i *inside) route(gateways []string) error {
	link, err := i.LinkByName(nodeInterface)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if err := i.RouteAdd(defaultRoute(link, g)); err != nil {
			return fmt.Errorf("routing by %s: %w", g, err)
		}
	}
	return nil
}

// macOf is the address of the card at the far end of a link: a machine that is switched
// on again has the one that it had, which its neighbours remember.
func macOf(link string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(link))
	return append(net.HardwareAddr{0x02}, sum[:5]...) // locally administered
}
