// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

const nodes = 3

var suite = cluster.NewSuite(cluster.Options{Name: "bench", Nodes: nodes, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster with Weft.
type world struct {
	*cluster.Cluster
	b *testing.B
}

// installed is the cluster with Weft as the README installs it.
func installed(b *testing.B) *world {
	b.Helper()
	w := &world{Cluster: suite.Cluster(b), b: b}
	for _, program := range []string{"stopwatch", "traffic"} {
		if err := w.BuildProgram(b.Context(), program, filepath.Join(w.dir(), program)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Shell(b.Context(), "helm status weft --namespace weft-system"); err != nil {
		w.shell("helm install weft daemonset/chart --namespace weft-system --create-namespace --set apiServer.host=" +
			strings.TrimSuffix(cluster.APIServer, ":6443"))
	}
	w.shell("weft status --wait --timeout 120s")
	w.ok(w.WaitReady(b.Context(), time.Minute))
	return w
}

// dir is a folder that this machine, nodes and pods share, where programs are.
func (w *world) dir() string { return filepath.Join(w.Repository(), "build/cluster-bench") }

func (w *world) ok(err error) {
	w.b.Helper()
	if err != nil {
		w.b.Fatal(err)
	}
}

func (w *world) shell(command string) string {
	w.b.Helper()
	out, err := w.Shell(w.b.Context(), command)
	if err != nil {
		w.b.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (w *world) node(n int, command string) string {
	w.b.Helper()
	out, err := w.Node(n).Run(w.b.Context(), command)
	if err != nil {
		w.b.Fatalf("%v\n%s", err, out)
	}
	return out
}

// eventually looks until there is no error.
func (w *world) eventually(what string, look func() error) {
	w.b.Helper()
	const atMost = time.Minute
	for until := time.Now().Add(atMost); ; time.Sleep(5 * time.Millisecond) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(until) || w.b.Context().Err() != nil {
			w.b.Fatalf("after %v not %s: %v", atMost, what, err)
		}
	}
}

// namespace makes one that is gone when the benchmark has ended: the next one finds no
// pods on their way out.
func (w *world) namespace(name string) {
	w.b.Helper()
	w.shell("kubectl create namespace " + name)
	w.b.Cleanup(func() { w.later("kubectl delete namespace --timeout=3m " + name) })
	w.eventually("a service account in namespace "+name, func() error {
		_, err := w.Kubectl(w.b.Context(), "get", "serviceaccount", "default", "-n", name)
		return err
	})
}

// later is for what is done when a benchmark, and its context, has ended.
func (w *world) later(command string) {
	cmd := exec.Command("bash", "-c", command)
	cmd.Env = w.Env()
	if out, err := cmd.CombinedOutput(); err != nil {
		w.b.Errorf("%s: %v\n%s", command, err, out)
	}
}

// pod is the manifest of one that runs one of the programs.
func (w *world) pod(namespace, name string, node int, labels string, command ...string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: %s
    command: ["%s"]
    volumeMounts: [{name: programs, mountPath: /bench}]
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, namespace, name, labels, w.Node(node).Name(), cluster.AgnhostImage, strings.Join(command, `", "`), w.dir())
}

// address waits until a pod is ready, and gives its IPv4 address.
func (w *world) address(namespace, name string) string {
	w.b.Helper()
	w.shell(fmt.Sprintf("kubectl wait --for=condition=Ready pod/%s -n %s --timeout=60s", name, namespace))
	return w.shell(fmt.Sprintf("kubectl get pod %s -n %s -o jsonpath={.status.podIP}", name, namespace))
}

// report makes a figure of its own of what was measured.
func report(b *testing.B, name string, value float64, unit string) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(value, unit)
		b.ReportMetric(0, "ns/op")
	})
}

// quantiles reports the median and the time within which 99 of 100 were done.
func quantiles(b *testing.B, name string, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	at := func(part float64) float64 {
		return float64(all[min(int(part*float64(len(all))), len(all)-1)].Microseconds()) / 1e3
	}
	report(b, name+"_p50", at(0.5), "ms")
	report(b, name+"_p99", at(0.99), "ms")
}
