// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/apiserver"
	"github.com/weftmesh/weft/tests/rounds"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	remoteNodes = 99
	remotePods  = 10_000
)

// BenchmarkClusterMemory is what the agent takes, as a process with its programs and
// maps, in a cluster with 10,000 pods on other nodes.
func BenchmarkClusterMemory(b *testing.B) {
	ctx := context.Background()
	b.Cleanup(func() { empty(b) })
	must(b, populate(ctx, remoteNodes, remotePods))
	a := realAgent(b, "node-here")
	must(b, eventually(ctx, "the kernel knows all pods", func() error {
		rows, err := countRows("weft_ip4_v1")
		if err == nil && rows < remotePods {
			err = fmt.Errorf("it knows %d addresses", rows)
		}
		return err
	}))
	rounds.Report(b, fmt.Sprintf("%d_remote_endpoints/agent_rss", remotePods), leastRSS(b, a), "MB")
}

// populate makes nodes, label sets and the slices that agents would write.
func populate(ctx context.Context, nodes, pods int) error {
	c, err := k8s.NewClient(theWorld.server.Config(apiserver.Admin))
	if err != nil {
		return err
	}
	if err := each(labelSets, func(i int) error {
		labels := model.NewLabels(model.Label{Source: model.SourceK8s, Key: "app", Value: fmt.Sprint("app-", i)},
			model.Label{Source: model.SourceK8s, Key: model.LabelNamespace, Value: namespace})
		_, err := c.Identities.Create(ctx, k8s.IdentityTo(model.Identity{ID: 50_000 + model.IdentityID(i), Labels: labels}), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // of an earlier round
		}
		return err
	}); err != nil {
		return err
	}
	onEach := (pods + nodes - 1) / nodes
	return each(nodes, func(i int) error {
		name := fmt.Sprintf("node-%03d", i)
		if err := makeNode(ctx, name, i); err != nil {
			return err
		}
		var obj *v1alpha1.WeftNode
		err := eventually(ctx, "ranges of "+name, func() (err error) {
			if obj, err = c.Nodes.Get(ctx, name, metav1.GetOptions{}); err == nil && len(obj.Spec.PodCIDRs) != 2 {
				err = fmt.Errorf("it has %v", obj.Spec.PodCIDRs)
			}
			return err
		})
		if err != nil {
			return err
		}
		node, _ := k8s.NodeFrom(obj)
		first, last := i*onEach, min((i+1)*onEach, pods)
		for n := 0; first < last; n++ {
			count := min(sliceOf, last-first)
			s := model.NodeSlice{Name: fmt.Sprintf("%s-%d", name, n), Node: name}
			for j := range count {
				s.Endpoints = append(s.Endpoints, remoteEndpoint(node.PodCIDRs, n*sliceOf+j, first+j))
			}
			first += count
			if _, err := c.NodeSlices.Create(ctx, k8s.SliceTo(s, k8s.NodeOwner(obj)), metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// sliceOf is how many endpoints of a usual length are in one slice.
const sliceOf = 25

func remoteEndpoint(ranges []netip.Prefix, at, i int) model.NodeEndpoint {
	e := model.NodeEndpoint{Pod: model.PodKey{Namespace: namespace, Name: fmt.Sprintf("frontend-7d9f8b6c5d-%05d", i)},
		Identity: 50_000 + model.IdentityID(i%labelSets), Ports: []model.NamedPort{{Name: "http", Protocol: model.ProtoTCP, Port: 8080}},
		Workload: model.Workload{Kind: "Deployment", Name: "frontend"}}
	for _, r := range ranges {
		b := r.Addr().AsSlice()
		b[len(b)-1] = byte(at + 2)
		if a, _ := netip.AddrFromSlice(b); a.Is4() {
			e.IPv4 = a
		} else {
			e.IPv6 = a
		}
	}
	return e
}

// realAgent starts the agent as it is installed. It will tell that it has no routes to
// the other nodes, which are not there.
func realAgent(tb testing.TB, name string) *sandbox.Agent {
	tb.Helper()
	ctx := context.Background()
	must(tb, makeNode(ctx, name, remoteNodes+1))
	bin, err := sandbox.BinDir()
	must(tb, err)
	mount, err := cgroup.FindMount()
	must(tb, err)
	group := filepath.Join(mount, "pods")
	must(tb, os.MkdirAll(group, 0o755))
	kubeconfig, err := theWorld.server.Kubeconfig(apiserver.Admin)
	must(tb, err)
	config := filepath.Join(tb.TempDir(), "config.yaml")
	text := fmt.Sprintf("nodeName: %s\nmetricsAddress: \"127.0.0.1:9465\"\ncgroup: %s\nclusterCIDRs: [10.244.0.0/16, \"fd00:10:244::/48\"]\nkubernetes: {enabled: true, kubeconfig: %s}\n",
		name, group, kubeconfig)
	must(tb, os.WriteFile(config, []byte(text), 0o600))
	a, err := sandbox.StartAgent(sandbox.AgentConfig{Binary: filepath.Join(bin, "weft-agent"), Config: config})
	must(tb, err)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("agent's log:\n%s", a.Log())
		}
		must(tb, a.Kill())
		must(tb, os.Remove(group))
	})
	return a
}

// countRows counts the rows of a pinned map.
func countRows(name string) (n int, err error) {
	m, err := ebpf.LoadPinnedMap("/sys/fs/bpf/weft/maps/"+name, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	var key, value []byte
	rows := m.Iterate()
	for rows.Next(&key, &value) {
		n++
	}
	return n, rows.Err()
}

// leastRSS is what the process takes once it has come to rest, in MB.
func leastRSS(tb testing.TB, a *sandbox.Agent) float64 {
	tb.Helper()
	least := 0.0
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 10 { // a collection of garbage may just be due
		<-tick.C
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID()))
		must(tb, err)
		_, after, _ := strings.Cut(string(text), "VmRSS:")
		var kib float64
		_, err = fmt.Sscan(after, &kib)
		must(tb, err)
		if now := kib * 1024 / 1e6; least == 0 || now < least {
			least = now
		}
	}
	return least
}
