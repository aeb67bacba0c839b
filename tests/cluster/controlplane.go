// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

const (
	controlPlane = "control-plane"
	etcdURL      = "http://127.0.0.1:2379"
)

// startControlPlane starts it and gives the port by which it is reached from here.
func (c *Cluster) startControlPlane() (port int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("opening a port for the API server: %w", err)
	}
	defer func() { _ = listener.Close() }()
	port = listener.Addr().(*net.TCPAddr).Port
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	spec := machine.Spec{
		Hostname: controlPlane, Bound: c.bound, Proxy: "127.0.0.1:6443", Sysctls: routerSysctls(),
		Services: []machine.Service{c.etcd(), c.apiServer(), c.controllerManager(), c.scheduler()},
	}
	return port, machine.Start(c.at.machine(controlPlane), c.binary(), spec, file, makeUnderlay)
}

// routerSysctls let a machine forward. Reverse paths are looked at loosely, as
// distributions have it.
func routerSysctls() map[string]string {
	return map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
		"net/ipv4/conf/all/rp_filter": "2", "net/ipv4/conf/default/rp_filter": "2",
	}
}

// etcd keeps its data on disk, but does not wait for the disk: a cluster that
// loses its power is made anew.
func (c *Cluster) etcd() machine.Service {
	return machine.Service{Name: "etcd", Args: []string{c.tools.path("etcd"),
		"--data-dir=" + filepath.Join(c.at.machine(controlPlane), "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380"}}
}

func (c *Cluster) apiServer() machine.Service {
	pki := func(name string) string { return filepath.Join(c.at.pki(), name) }
	return machine.Service{Name: "kube-apiserver", Args: []string{c.tools.path("kube-apiserver"),
		"--etcd-servers=" + etcdURL, "--advertise-address=" + controlPlaneIPv4, "--bind-address=::", "--secure-port=6443",
		"--service-cluster-ip-range=" + serviceRanges, "--allow-privileged=true",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
		"--enable-aggregator-routing=true"}}
}

// The controller manager gives nodes their pod ranges; with its usual limits on
// requests these come seconds late.
func (c *Cluster) controllerManager() machine.Service {
	pki := func(name string) string { return filepath.Join(c.at.pki(), name) }
	return machine.Service{Name: "kube-controller-manager", Args: append(c.client("kube-controller-manager", "controller-manager"),
		"--use-service-account-credentials=true", "--root-ca-file="+pki("ca.crt"), "--service-account-private-key-file="+pki("sa.key"),
		"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
		"--requestheader-client-ca-file="+pki("front-proxy-ca.crt"),
		"--allocate-node-cidrs=true", "--cluster-cidr="+podRanges, "--service-cluster-ip-range="+serviceRanges)}
}

func (c *Cluster) scheduler() machine.Service {
	return machine.Service{Name: "kube-scheduler", Args: c.client("kube-scheduler", "scheduler")}
}

// client is what the two have in common.
func (c *Cluster) client(program, name string) []string {
	config := filepath.Join(c.at.pki(), name+".kubeconfig")
	return []string{c.tools.path(program), "--kubeconfig=" + config, "--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--kube-api-qps=500", "--kube-api-burst=500"}
}

// writeAdmin writes the kubeconfig of who works with the cluster from here. That of
// the cluster weft is also where everybody looks for it.
func (c *Cluster) writeAdmin(port int) error {
	config, err := c.pki.kubeconfig(fmt.Sprintf("https://127.0.0.1:%d", port),
		holder{user: "admin", groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.at.adminKubeconfig(), []byte(config), 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	if c.at.name != defaultName {
		return nil
	}
	if err := os.WriteFile(c.at.commonKubeconfig(), []byte(config), 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return nil
}
