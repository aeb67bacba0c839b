// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

// Node is a node of the cluster, by its number from 1; its name is n and that.
type Node struct {
	cluster *Cluster
	number  int
}

// Node gives a node by its number.
func (c *Cluster) Node(n int) *Node { return &Node{cluster: c, number: n} }

// Name is what Kubernetes calls it.
func (n *Node) Name() string { return fmt.Sprintf("n%d", n.number) }

// IPv4 and IPv6 are its addresses on the underlay.
func (n *Node) IPv4() string { return nodeIPv4(n.number) }

// IPv6 see IPv4.
func (n *Node) IPv6() string { return nodeIPv6(n.number) }

// Run runs a shell command on the node; its output is both streams.
func (n *Node) Run(ctx context.Context, command string) (string, error) {
	return n.cluster.runOn(ctx, n.Name(), nil, "sh", "-c", command)
}

// Attached are the programs on the node's devices, a line each.
func (n *Node) Attached(ctx context.Context) (string, error) {
	return n.Run(ctx, n.cluster.binary()+" attached")
}

// Exec runs a command on the node in the place of this process.
func (n *Node) Exec(args ...string) error {
	return machine.Enter(n.cluster.at.machine(n.Name()), args, []string{n.cluster.tools.searchPath(n.cluster.at.bin())})
}

// Signal sends a signal to kubelet or containerd; one that ends is started again
// after a second.
func (n *Node) Signal(service string, sig syscall.Signal) error {
	return machine.Signal(n.cluster.at.machine(n.Name()), service, sig)
}

// SignalControlPlane does so with etcd, kube-apiserver, kube-controller-manager or
// kube-scheduler.
func (c *Cluster) SignalControlPlane(service string, sig syscall.Signal) error {
	return machine.Signal(c.at.machine(controlPlane), service, sig)
}

// PowerOff ends everything on the node at once; Start starts it again, with its
// disk (/var/lib/…) as it was.
func (n *Node) PowerOff(ctx context.Context) error {
	return machine.Stop(ctx, n.cluster.at.machine(n.Name()))
}

// disk is what a node finds again after a reboot.
func disk() []string {
	return []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/weft", "/var/log/pods", "/var/log/containers"}
}

// Start starts the node. Kubelet registers it when the API server is there.
func (n *Node) Start() error {
	c := n.cluster
	control, err := machine.PID1(c.at.machine(controlPlane))
	if err != nil {
		return err
	}
	files, err := n.files()
	if err != nil {
		return fmt.Errorf("configuring node %s: %w", n.Name(), err)
	}
	path := c.tools.searchPath(c.at.bin())
	spec := machine.Spec{
		Hostname: n.Name(), Node: true, Bound: c.bound, CgroupName: c.at.cgroup(n.Name()), Disk: disk(), Files: files, Sysctls: routerSysctls(),
		Pretend: map[string]string{"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10",
			"kernel/panic_on_oops": "1", "kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000"},
		Services: []machine.Service{
			{Name: "containerd", Env: []string{path}, Args: []string{c.tools.path("containerd"), "--config", "/etc/containerd/config.toml"}},
			{Name: "kubelet", Env: []string{path}, After: []string{"unix:" + containerdSocket, apiServer + "/readyz"},
				Args: []string{c.tools.path("kubelet"), "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=/etc/kubernetes/kubelet.conf",
					"--hostname-override=" + n.Name(), "--node-ip=" + n.IPv4() + "," + n.IPv6(), "--v=2"}},
		},
	}
	return machine.Start(c.at.machine(n.Name()), c.binary(), spec, nil,
		func(pid int) error { return nodeCable(n.number).lay(control.PID, pid) })
}

// first is a new node's first start, with its images.
func (n *Node) first(ctx context.Context) error {
	if err := n.Start(); err != nil {
		return err
	}
	for _, archive := range n.cluster.images {
		if err := n.LoadImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// AddNode adds a node and returns when it has registered and has the images.
func (c *Cluster) AddNode(ctx context.Context) (*Node, error) {
	n := c.Node(slices.Max(append(c.nodes, 0)) + 1)
	c.nodes = append(c.nodes, n.number)
	if err := c.writeRecord(); err != nil {
		return nil, err
	}
	if err := n.first(ctx); err != nil {
		return nil, fmt.Errorf("adding node %s: %w", n.Name(), err)
	}
	return n, c.waitRegistered(ctx)
}

// RemoveNode takes a node away for good, as a machine that is given back.
func (c *Cluster) RemoveNode(ctx context.Context, n *Node) error {
	if err := machine.Remove(ctx, c.at.machine(n.Name())); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "delete", "node", n.Name()); err != nil {
		return err
	}
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(i int) bool { return i == n.number })
	return c.writeRecord()
}

// Reboot is PowerOff and Start.
func (n *Node) Reboot(ctx context.Context) error {
	return errors.Join(n.PowerOff(ctx), n.Start())
}

// LoadImage gives the node the images of an archive (OCI or docker).
func (n *Node) LoadImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("loading an image: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := n.containerdReady(ctx); err != nil {
		return err
	}
	// Layers are unpacked when a container wants them.
	out, err := n.cluster.runOn(ctx, n.Name(), f, n.cluster.tools.path("ctr"), "--namespace=k8s.io", "images", "import", "--no-unpack", "-")
	if err != nil {
		return fmt.Errorf("loading %s into node %s: %w\n%s", archive, n.Name(), err, out)
	}
	return nil
}

func (n *Node) containerdReady(ctx context.Context) error {
	return within(ctx, 2*time.Minute, "containerd of "+n.Name(), func() error {
		out, err := n.cluster.runOn(ctx, n.Name(), nil, n.cluster.tools.path("ctr"), "version")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// runOn runs a command on a machine. The program of the harness enters it, because
// the command must be in the machine's groups before it begins.
func (c *Cluster) runOn(ctx context.Context, name string, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.binary(), append([]string{"enter", c.at.machine(name), c.tools.searchPath(c.at.bin())}, args...)...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", name, strings.Join(args, " "), err)
	}
	return out.String(), err
}
