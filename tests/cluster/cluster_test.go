// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

func TestNodesRegisterAndWaitForANetwork(t *testing.T) {
	c := suite.Cluster(t)
	nodes, err := c.NodeStatuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 {
		t.Fatalf("%d nodes have registered, not 2", len(nodes))
	}
	for _, n := range nodes {
		if ready, why := n.Ready(); ready || !strings.Contains(why, "cni plugin not initialized") {
			t.Errorf("%s: Ready is %v (%s), but it has no network plugin", n.Metadata.Name, ready, why)
		}
		tainted := false
		for _, taint := range n.Spec.Taints {
			tainted = tainted || taint.Key == AgentNotReady && taint.Effect == "NoSchedule"
		}
		if !tainted {
			t.Errorf("%s has not the taint %s: %v", n.Metadata.Name, AgentNotReady, n.Spec.Taints)
		}
		if len(n.Spec.PodCIDRs) != 2 || !strings.HasPrefix(n.Spec.PodCIDRs[0], "10.244.") || !strings.HasPrefix(n.Spec.PodCIDRs[1], "fd00:10:244:") {
			t.Errorf("%s has the pod ranges %v, not one of each family", n.Metadata.Name, n.Spec.PodCIDRs)
		}
	}
	err = within(t.Context(), 30*time.Second, "CoreDNS to wait for a network", func() error {
		pods, err := c.Kubectl(t.Context(), "get", "pods", "-A", "-o", "jsonpath={.items[*].metadata.name}={.items[*].status.conditions[*].reason}")
		if err == nil && (!strings.HasPrefix(pods, "coredns-") || !strings.HasSuffix(pods, "=Unschedulable")) {
			err = fmt.Errorf("pods are %q", pods)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNothingRoutesPodsButWeft(t *testing.T) {
	c := suite.Cluster(t)
	pods := netip.MustParsePrefix("10.244.0.0/16")
	for _, m := range []string{controlPlane, outside, "n1", "n2"} {
		table, err := c.runOn(t.Context(), m, nil, "cat", "/proc/net/route")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(table), "\n")
		for _, line := range lines[1:] {
			f := strings.Fields(line)
			raw, err := hex.DecodeString(f[1])
			if err != nil {
				t.Fatalf("%s: %q: %v", m, line, err)
			}
			var to [4]byte
			binary.BigEndian.PutUint32(to[:], binary.LittleEndian.Uint32(raw))
			if pods.Contains(netip.AddrFrom4(to)) {
				t.Errorf("%s has a route to pods: %s", m, line)
			}
		}
		if m != controlPlane && len(lines) < 2 {
			t.Errorf("%s has no route at all", m)
		}
	}
}

func TestTheWorldAndNodesReachEachOther(t *testing.T) {
	c := suite.Cluster(t)
	agnhost := c.tools.path("agnhost")
	for _, address := range []string{OutsideIPv4 + ":8080", "[" + OutsideIPv6 + "]:8080"} {
		if out, err := c.Node(1).Run(t.Context(), agnhost+" connect --timeout=5s "+address); err != nil {
			t.Errorf("from a node to the world: %v: %s", err, out)
		}
	}
	for _, address := range []string{c.Node(1).IPv4() + ":10250", "[" + c.Node(2).IPv6() + "]:10250"} {
		if out, err := c.Outside(t.Context(), agnhost+" connect --timeout=5s "+address); err != nil {
			t.Errorf("from the world to a node: %v: %s", err, out)
		}
	}
}

// hostNetworkPods is what an agent's DaemonSet needs of a node without a network.
const hostNetworkPods = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: early, namespace: default}
spec:
  selector: {matchLabels: {app: early}}
  template:
    metadata: {labels: {app: early}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers:
      - name: agnhost
        image: ` + AgnhostImage + `
        args: [netexec, --http-port=18080]
        readinessProbe: {httpGet: {port: 18080, path: /healthz}, periodSeconds: 1}
        securityContext: {privileged: true}
        volumeMounts:
        - {name: bpf, mountPath: /sys/fs/bpf, mountPropagation: Bidirectional}
        - {name: cni, mountPath: /host/cni}
      volumes:
      - {name: bpf, hostPath: {path: /sys/fs/bpf}}
      - {name: cni, hostPath: {path: /etc/cni/net.d}}
`

func TestAPodOfTheHostsNetworkRunsWithoutAPlugin(t *testing.T) {
	c := suite.Cluster(t)
	if err := c.Apply(t.Context(), hostNetworkPods); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if out, err := c.Kubectl(context.Background(), "delete", "daemonset", "early"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	if out, err := c.Kubectl(t.Context(), "rollout", "status", "daemonset/early", "--timeout=2m"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Through the API server and kubelet into the container, to the network and back.
	out, err := c.Kubectl(t.Context(), "exec", "daemonset/early", "--", "sh", "-c",
		"timeout 10 wget -qO- http://"+OutsideIPv4+":8080/clientip; mkdir /host/cni/seen && mount | grep -c 'bpf on /sys/fs/bpf'")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.HasPrefix(out, "172.30.0.1") || !strings.HasSuffix(out, "1\n") {
		t.Errorf("the world saw, and the pod sees of bpffs: %q", out)
	}
	logs, err := c.Kubectl(t.Context(), "logs", "daemonset/early")
	if err != nil || !strings.Contains(logs, "18080") {
		t.Errorf("logs: %q, %v", logs, err)
	}
	var seen []string
	for _, n := range c.Nodes() {
		if _, err := n.Run(t.Context(), "rmdir /etc/cni/net.d/seen"); err == nil {
			seen = append(seen, n.Name())
		}
	}
	if len(seen) != 1 {
		t.Errorf("what one pod made in its node's /etc/cni/net.d is seen on %v", seen)
	}
}

func TestCommandsPassStatusAndOutputOn(t *testing.T) {
	c := suite.Cluster(t)
	out, err := c.Node(2).Run(t.Context(), "hostname; echo to stderr >&2; exit 7")
	if out != "n2\nto stderr\n" || err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("output %q, error %v", out, err)
	}
	if _, err := c.Kubectl(t.Context(), "get", "pods", "--no-such-flag"); err == nil || !strings.Contains(err.Error(), "unknown flag") {
		t.Errorf("a wrong kubectl command gives the error %v", err)
	}
}

func TestKilledServicesComeBack(t *testing.T) {
	c := suite.Cluster(t)
	before := make(map[string]machine.Process)
	where := map[string]string{"containerd": "n1", "kubelet": "n1", "etcd": controlPlane, "kube-apiserver": controlPlane}
	for service, m := range where {
		p, err := machine.ServiceProcess(c.at.machine(m), service)
		if err != nil {
			t.Fatal(err)
		}
		before[service] = p
		if err := machine.Signal(c.at.machine(m), service, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for service, m := range where {
		err := within(t.Context(), 30*time.Second, service+" back", func() error {
			p, err := machine.ServiceProcess(c.at.machine(m), service)
			if err == nil && p == before[service] {
				err = fmt.Errorf("it is still process %d", p.PID)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := c.api.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.waitRegistered(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Node(1).containerdReady(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestARebootedNodeKeepsItsDiskAlone(t *testing.T) {
	c := suite.Cluster(t)
	n := c.Node(2)
	if out, err := n.Run(t.Context(), "touch /var/lib/weft/kept /run/lost /etc/lost"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := n.Run(t.Context(), "rm /var/lib/weft/kept && ls /run/lost /etc/lost 2>/dev/null; true")
	if err != nil || out != "" {
		t.Errorf("after a reboot: %q, %v", out, err)
	}
	if err := n.containerdReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	images, err := n.Run(t.Context(), "ctr --namespace=k8s.io images ls -q")
	if err != nil || !strings.Contains(images, AgnhostImage) {
		t.Errorf("its images are %q, %v", images, err)
	}
}

func TestANodeIsAddedAndRemoved(t *testing.T) {
	c := suite.Cluster(t)
	n, err := c.AddNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n.Name() != "n3" {
		t.Errorf("the new node is %s", n.Name())
	}
	if err := c.RemoveNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	nodes, err := c.NodeStatuses(t.Context())
	if err != nil || len(nodes) != 2 || slices.ContainsFunc(nodes, func(s NodeStatus) bool { return s.Metadata.Name == "n3" }) {
		t.Errorf("nodes after its removal: %v, %v", nodes, err)
	}
	if left := groupsOf(t, c, "n3"); len(left) > 0 {
		t.Errorf("its groups are left: %v", left)
	}
}

// groupsOf are the control groups of a cluster's machines that are there.
func groupsOf(t *testing.T, c *Cluster, m string) (found []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		paths, err := filepath.Glob(pattern + c.at.cgroup(m))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}
