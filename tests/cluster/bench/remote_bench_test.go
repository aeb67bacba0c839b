// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What other nodes are said to have: as many as there can be, each at the limit that
// Kubernetes has by default, ten pods of a kind.
const (
	farNodes      = 100
	farPods       = 100 // of each
	farIdentities = farNodes * farPods / 10
	farSlice      = 25   // endpoints of a slice
	firstFar      = 5000 // number of an identity
)

// BenchmarkAgentMemory is what an agent takes that has learned of 10,000 endpoints of
// 100 other nodes. These are objects of the API server only: an agent learns nothing
// else of another node.
func BenchmarkAgentMemory(b *testing.B) {
	w := installed(b)
	p := w.startProxy()
	before := w.agentRSS(2)
	b.Cleanup(func() { // the operator collects identities by and by
		for _, plural := range []string{"weftendpointslices", "weftnodes"} {
			if err := p.request(http.MethodDelete, weftAPI+plural+"?labelSelector=weftmesh.io/namespace=bench-far", "application/yaml", ""); err != nil {
				b.Error(err)
			}
		}
	})
	p.applyAll(farIdentityObjects())
	p.applyAll(farNodeObjects())
	p.applyAll(farSliceObjects())
	w.Eventually(time.Minute, "every endpoint in the kernel", func() error { return w.knowsFar(2) })
	w.Shell("weft status --wait --timeout 60s")
	report(b, "no_remote_endpoints", before, "MB")
	report(b, "10000_remote_endpoints", w.agentRSS(2), "MB")
}

func farObject(kind, plural, name, rest string) object {
	return object{plural, name, fmt.Sprintf("apiVersion: weftmesh.io/v1alpha1\nkind: %s\nmetadata: {name: %q, labels: {weftmesh.io/namespace: bench-far}}\n%s",
		kind, name, rest)}
}

func farIdentityObjects() (all []object) {
	for i := range farIdentities {
		all = append(all, farObject("WeftIdentity", "weftidentities", fmt.Sprint(firstFar+i), fmt.Sprintf("securityLabels: [\"k8s:app=app-%d\", "+
			"\"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=bench-far\", \"k8s:io.cilium.k8s.policy.cluster=default\", "+
			"\"k8s:io.cilium.k8s.policy.serviceaccount=default\", \"k8s:io.kubernetes.pod.namespace=bench-far\"]\n", i)))
	}
	return all
}

func farNodeObjects() (all []object) {
	for i := range farNodes {
		all = append(all, farObject("WeftNode", "weftnodes", fmt.Sprint("far-", i), fmt.Sprintf(
			"spec: {addresses: [172.30.0.%d, \"fd00:172:30::%x\"], podCIDRs: [10.244.%d.0/24, \"fd00:10:244:%x::/64\"]}\n", 100+i, 0x100+i, 100+i, 100+i)))
	}
	return all
}

func farSliceObjects() (all []object) {
	for node := range farNodes {
		for first := 0; first < farPods; first += farSlice {
			var b strings.Builder
			fmt.Fprintf(&b, "nodeName: far-%d\nendpoints:\n", node)
			for i := first; i < first+farSlice; i++ {
				app := (node*farPods + i) % farIdentities
				fmt.Fprintf(&b, "- {namespace: bench-far, name: app-%d-7d9c5b8f6d-%05d, identity: %d, addresses: [10.244.%d.%d, \"fd00:10:244:%x::%x\"], "+
					"ports: [{name: http, protocol: TCP, port: 8080}], workload: {kind: Deployment, name: app-%d}}\n",
					app, node*farPods+i, firstFar+app, 100+node, 2+i, 100+node, 2+i, app)
			}
			all = append(all, farObject("WeftEndpointSlice", "weftendpointslices", fmt.Sprintf("far-%d-%d", node, first/farSlice), b.String()))
		}
	}
	return all
}

// knowsFar tells whether the node's kernel has both addresses of every endpoint.
func (w *world) knowsFar(n int) error {
	out := w.On(n, w.Repository()+"/build/bin/cluster maps | awk '/^==/ {on = /weft_ip[46]_/} on && /^[0-9a-f]+  / {n++} END {print n+0}'")
	var count int
	if _, err := fmt.Sscan(out, &count); err != nil {
		return err
	}
	if count < 2*farNodes*farPods {
		return fmt.Errorf("%d addresses are known", count)
	}
	return nil
}

// agentRSS is the least that a node's agent takes within five seconds, in MB: a
// collection of garbage may just be due.
func (w *world) agentRSS(n int) float64 {
	w.T.Helper()
	least := 0.0
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		out := w.On(n, `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != weft-agent ] || grep VmRSS: $p/status; done`)
		var kib float64
		if _, err := fmt.Sscanf(out, "VmRSS: %f kB", &kib); err != nil {
			w.T.Fatalf("the agent of node %d: %v: %q", n, err, out)
		}
		if now := kib * 1024 / 1e6; least == 0 || now < least {
			least = now
		}
	}
	return least
}
