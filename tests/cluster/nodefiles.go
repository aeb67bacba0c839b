// SPDX-License-Identifier: Apache-2.0

package cluster

import "fmt"

const containerdSocket = "/run/containerd/containerd.sock"

// AgentNotReady is the taint that a node registers with; Weft takes it away.
const AgentNotReady = "weftmesh.io/agent-not-ready"

// files are the node's configuration.
func (n *Node) files() (map[string]string, error) {
	user := holder{user: "system:node:" + n.Name(), groups: []string{"system:nodes"}}
	config, err := n.cluster.pki.kubeconfig(apiServer, user)
	if err != nil {
		return nil, err
	}
	user.names, user.ips = []string{n.Name()}, []string{n.IPv4(), n.IPv6()}
	serving, err := n.cluster.pki.ca.issue(user)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"/etc/hostname":                n.Name() + "\n",
		"/etc/hosts":                   "127.0.0.1 localhost\n::1 localhost\n" + n.IPv4() + " " + n.Name() + "\n",
		"/etc/resolv.conf":             "nameserver 127.0.0.1\n", // there is no DNS but the cluster's
		"/etc/containerd/config.toml":  containerdConfig(n.cluster.tools.path("runc")),
		"/etc/kubernetes/kubelet.conf": config,
		"/etc/kubernetes/kubelet.yaml": kubeletConfig,
		"/etc/kubernetes/ca.crt":       string(n.cluster.pki.ca.pem),
		"/etc/kubernetes/kubelet.crt":  string(serving.cert),
		"/etc/kubernetes/kubelet.key":  string(serving.key),
		"/etc/cni/net.d/":              "",
		"/opt/cni/bin/":                "",
	}, nil
}

// containerdConfig: no capability to lower an OOM score is taken for granted, and lo
// comes up without a plugin, so that the only one is Weft's. What is put into the first
// folder, which nobody makes, is called in the place of a plugin of the same name.
func containerdConfig(runc string) string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = %q
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = %q
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/first", "/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
  use_internal_loopback = true
`, containerdSocket, PauseImage, runc)
}

// kubeletConfig: a container that a test kills comes back within a second, however often.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://` + containerdSocket + `
clusterDNS: [` + clusterDNS + `]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
failSwapOn: false
registerWithTaints: [{key: ` + AgentNotReady + `, effect: NoSchedule}]
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/kubelet.key
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
kubeAPIQPS: 50
maxPods: 250
`
