// SPDX-License-Identifier: Apache-2.0

// Package config is the agent's configuration: one file, read strictly, with a
// default for everything. What is wrong in it is reported with its line, its
// field and a remedy, and the agent does not start.
package config

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/identity"
)

//go:generate go run ./gendocs -config config.go -values ../../daemonset/chart/values.yaml -doc ../../docs/CONFIGURATION.md

// DefaultPath is where the agent looks for its configuration.
const DefaultPath = "/etc/weft/config.yaml"

// Config is the whole configuration of an agent. docs/CONFIGURATION.md is made
// from it: the comments of its fields are the reference that users read.
type Config struct {
	// Name of this node in flows, status and the API; in Kubernetes that of its Node.
	NodeName string `json:"nodeName" default:"$NODE_NAME, or the host name"`
	// Name of the cluster; part of every identity.
	ClusterName string `json:"clusterName"`
	// Kubernetes as the source of pods, services and policies.
	Kubernetes Kubernetes `json:"kubernetes"`
	// Folder of the manifests that take the place of Kubernetes on a plain host. It may be created later.
	Manifests string `json:"manifests"`
	// Folder for what survives a restart of the machine: endpoints, addresses, identities, numbers of rulesets.
	StateDir string `json:"stateDir"`
	// Folder for the sockets of the API and of the CNI plugin.
	RunDir string `json:"runDir"`
	// Mount point of the BPF file system; what is pinned is in `weft` below it.
	BPFFS string `json:"bpffs"`
	// Folder on cgroup2 of the processes that reach services; empty: all of the host, at the mount point of cgroup2. Pods reach them in any case.
	Cgroup string `json:"cgroup" default:"the cgroup2 mount"`
	// Ranges that pods get their addresses from: one of IPv4, one of IPv6, or only one of the two. In Kubernetes each node's come from its WeftNode.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// All ranges of the cluster's own addresses; in Kubernetes those of its pods, of which each node gets a part. One that is in them but not known has the identity `unknown`, never `world`.
	ClusterCIDRs []netip.Prefix `json:"clusterCIDRs" default:"podCIDRs"`
	// Largest packet of a pod, in bytes; 0 takes that of the device with the default route, or 1500. With a tunnel, 0 takes the smallest of that and of the devices by which other nodes are reached, less what the tunnel adds: 50, or 70 between nodes that have IPv6 alone.
	MTU uint16 `json:"mtu"`
	// How packets reach the pods of other nodes.
	Tunnel Tunnel `json:"tunnel"`
	// Whether packets between pods of two nodes, which are routed as they are, pass by the stack of both hosts. That is faster; rules of the hosts for forwarded packets (the chain FORWARD, IPsec) then do not see them. Those between pods of one node never meet such rules.
	Shortcut bool `json:"shortcut"`
	// Least severe log lines that are written: debug, info, warn or error.
	LogLevel Level `json:"logLevel" reload:"yes"`
	// Address and port for /metrics and /healthz; empty: none.
	MetricsAddress string `json:"metricsAddress"`
	// Which labels of pods and namespaces make identities.
	IdentityLabels IdentityLabels `json:"identityLabels"`
	// Tracking of connections in the kernel.
	Conntrack Conntrack `json:"conntrack"`
	// What pods send to the outside, and the node's address that it leaves with.
	Masquerade Masquerade `json:"masquerade"`
	// The proxy for what policies ask of requests.
	Envoy Envoy `json:"envoy"`
	// Flow events.
	Flows Flows `json:"flows"`
	// The CNI plugin.
	CNI CNI `json:"cni"`
	// The operator of a cluster; the agent does not look at it.
	Operator Operator `json:"operator"`
}

// Tunnel configures the way to other nodes' pods. All nodes of a cluster must have
// the same; while some have another, their pods do not reach each other.
type Tunnel struct {
	// `none`: routed as they are, which asks for a network that leads to the pods of each node. `vxlan`: within packets from node to node, over any network, with the identity of the sender.
	Protocol TunnelProtocol `json:"protocol"`
	// UDP port of the tunnel at each node; firewalls between nodes must let it pass.
	Port uint16 `json:"port"`
}

// Envoy configures the proxy. On a plain host it runs from when a policy first needs it;
// in Kubernetes it is in pods of its own (DaemonSet weft-envoy).
type Envoy struct {
	// The stock Envoy, of version 1.40, where not Kubernetes brings it; empty: this node has no proxy. Without one the connections that rules about requests are for are refused.
	Binary string `json:"binary"`
}

// Operator configures weft-operator.
type Operator struct {
	// Address and port for the operator's /metrics, /healthz and /readyz; empty: none. Of several operators in one network the first has it, and another when that ends.
	MetricsAddress string `json:"metricsAddress"`
	// Socket by which `weft-operator health` asks this operator; empty: none.
	HealthSocket string `json:"healthSocket"`
	// Time that an identity stays after the last pod with its labels went, and the last endpoint with its number.
	IdentityGrace Duration `json:"identityGrace"`
}

// Kubernetes configures how the agent is part of a cluster.
type Kubernetes struct {
	// Whether the agent follows an API server instead of a folder of manifests.
	Enabled bool `json:"enabled"`
	// File that tells how to reach the API server; empty: with the service account of the pod, at $KUBERNETES_SERVICE_HOST.
	Kubeconfig string `json:"kubeconfig"`
}

// IdentityLabels configures the filter of package identity.
type IdentityLabels struct {
	// Patterns of label keys, in which `*` stands for any text. If there are any, only keys that match one make identities.
	Include []string `json:"include"`
	// Patterns of label keys that do not make identities. A list here replaces the default one.
	Exclude []string `json:"exclude"`
}

// Conntrack configures the tables of connections. Changes of sizes take effect
// when the agent starts, and keep the connections that fit.
type Conntrack struct {
	// Connections of IPv4 that the kernel remembers.
	EntriesIPv4 uint32 `json:"entriesIPv4" default:"131072; 32768 where podCIDRs has no IPv4 range"`
	// Connections of IPv6 that the kernel remembers.
	EntriesIPv6 uint32 `json:"entriesIPv6" default:"32768; 131072 where podCIDRs has no IPv4 range"`
	// Time after which an idle TCP connection is forgotten.
	TCPTimeout Duration `json:"tcpTimeout"`
	// Time after which a TCP connection is forgotten that both sides have closed, or one has reset.
	TCPClosingTimeout Duration `json:"tcpClosingTimeout"`
	// Time after which an idle flow of UDP, ICMP or another protocol is forgotten.
	OtherTimeout Duration `json:"otherTimeout"`
	// Time after which a flow is forgotten that was never answered.
	UnansweredTimeout Duration `json:"unansweredTimeout"`
}

// Sizes of the tables of connections that nobody has set: one family is a node's main
// one, and a table takes all its memory at once.
const (
	mainEntries  = 131072
	otherEntries = 32768
)

// setEntries sets the sizes that the file does not.
func (c *Config) setEntries() {
	v4, v6 := uint32(mainEntries), uint32(otherEntries)
	if !slices.ContainsFunc(c.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		v4, v6 = v6, v4
	}
	c.Conntrack.EntriesIPv4 = cmp.Or(c.Conntrack.EntriesIPv4, v4)
	c.Conntrack.EntriesIPv6 = cmp.Or(c.Conntrack.EntriesIPv6, v6)
}

// Masquerade configures the way out of the cluster: what pods send to addresses
// that are neither in clusterCIDRs nor known as a pod's or a node's.
type Masquerade struct {
	// Whether IPv4 packets leave with the node's address.
	IPv4 bool `json:"ipv4"`
	// Whether IPv6 packets leave with the node's address.
	IPv6 bool `json:"ipv6"`
	// Network devices by which packets leave; what leaves by another one keeps the pod's address.
	Devices []string `json:"devices" default:"those of the default routes"`
	// First port that the node gives to a flow whose own is taken.
	FirstPort uint16 `json:"firstPort"`
	// Last port that the node gives to a flow whose own is taken.
	LastPort uint16 `json:"lastPort"`
}

// Flows configures flow events.
type Flows struct {
	// Flows that the agent keeps in memory for `weft observe`.
	BufferSize int `json:"bufferSize"`
	// Time between two reports about a connection that lives on.
	AliveInterval Duration `json:"aliveInterval"`
}

// CNI configures how the container runtime comes to call Weft.
type CNI struct {
	// Whether the agent installs the CNI plugin and its configuration, and restores them when others change or remove them. In Kubernetes it does; on a plain host `make install` has done so.
	Install bool `json:"install"`
	// Folder from which the container runtime takes CNI plugins.
	BinDir string `json:"binDir"`
	// Folder from which the container runtime takes its CNI configuration.
	ConfDir string `json:"confDir"`
}

// Default is the configuration without a file, on a host of this name.
func Default(hostname string) Config {
	return Config{
		NodeName:       hostname,
		ClusterName:    "default",
		Manifests:      "/etc/weft/manifests",
		StateDir:       "/var/lib/weft",
		RunDir:         "/run/weft",
		BPFFS:          "/sys/fs/bpf",
		PodCIDRs:       []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")},
		LogLevel:       Level(slog.LevelInfo),
		MetricsAddress: "127.0.0.1:9465",
		IdentityLabels: IdentityLabels{Exclude: identity.DefaultExclude()},
		Conntrack: Conntrack{
			TCPTimeout: Duration(6 * time.Hour), TCPClosingTimeout: Duration(10 * time.Second),
			OtherTimeout: Duration(60 * time.Second), UnansweredTimeout: Duration(30 * time.Second),
		},
		Tunnel:     Tunnel{Port: 4789},
		Shortcut:   true,
		Masquerade: Masquerade{IPv4: true, FirstPort: 32768, LastPort: 65535},
		Envoy:      Envoy{Binary: "/usr/local/bin/envoy"},
		Flows:      Flows{BufferSize: 16384, AliveInterval: Duration(60 * time.Second)},
		CNI:        CNI{BinDir: "/opt/cni/bin", ConfDir: "/etc/cni/net.d"},
		Operator:   Operator{MetricsAddress: "127.0.0.1:9466", IdentityGrace: Duration(15 * time.Minute)},
	}
}
