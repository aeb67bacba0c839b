// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/level"
)

const (
	churn = "across-churn"
	grace = 5 * time.Second // of identities, in these tests
	// perChange is what one endpoint's change may cost an agent of another node, in bytes.
	perChange = 10_000
)

// crowd is pods that come and go: some run on all nodes, the rest are objects for which no
// scheduler looks, of which nobody but the operator hears.
type crowd struct {
	*world
	pods, real, sets int
}

// TestIdentities has pods created, relabelled and deleted, twice.
func TestIdentities(t *testing.T) {
	w := installed(t, lastMode())
	w.impatient()
	w.Namespace(churn, "team: churn")
	c := &crowd{world: w, pods: level.Scale(500), real: level.Scale(60), sets: level.Scale(100)}
	watched := c.guard()
	for round := range 2 {
		at := time.Now()
		c.each(func(i int) error { return c.create(i, fmt.Sprintf("%d-first-%d", round, i%c.sets)) })
		c.settled("created", c.pods)
		c.each(func(i int) error { return c.relabel(i, fmt.Sprintf("%d-second-%d", round, i*7%c.sets)) })
		c.settled("relabelled", c.pods)
		if round == 0 {
			c.costs()
			c.collectedLate()
		}
		c.each(c.remove)
		c.settled("deleted", 0)
		c.nothingLeft()
		t.Logf("round %d: %d pods of %d label sets, %d real, in %.1f s", round+1, c.pods, c.sets, c.real, time.Since(at).Seconds())
	}
	watched()
}

// impatient has the operator collect identities soon; what it was comes back.
func (w *world) impatient() {
	w.T.Helper()
	const path = "/api/v1/namespaces/weft-system/configmaps/weft-config"
	var is struct{ Data map[string]string }
	if err := w.Request(w.T.Context(), http.MethodGet, path, nil, &is); err != nil {
		w.T.Fatal(err)
	}
	set := func(ctx context.Context, config string) error {
		return errors.Join(w.Request(ctx, http.MethodPatch, path, map[string]any{"data": map[string]string{"config.yaml": config}}, nil),
			func() error {
				_, err := w.Cluster.Kubectl(ctx, "rollout", "restart", "deployment/weft-operator", "-n", "weft-system")
				return err
			}())
	}
	before := is.Data["config.yaml"]
	short := fmt.Sprintf("operator:\n  identityGrace: %s\n", grace)
	if !strings.Contains(before, "\noperator:\n") {
		w.T.Fatalf("no section of the operator's in\n%s", before)
	}
	if err := set(w.T.Context(), strings.Replace(before, "operator:\n", short, 1)); err != nil {
		w.T.Fatal(err)
	}
	w.Finally(func(ctx context.Context) error { return set(ctx, before) })
	w.Kubectl("rollout status deployment/weft-operator -n weft-system --timeout=90s")
	w.Shell("weft status --wait")
}

// each does something for every pod of the crowd, several at a time.
func (c *crowd) each(do func(i int) error) {
	c.T.Helper()
	const together = 16
	workers := make([]int, together)
	for i := range workers {
		workers[i] = i
	}
	for _, err := range each(workers, func(worker int) error {
		for i := worker; i < c.pods; i += together {
			if err := do(i); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			c.T.Fatal(err)
		}
	}
}

const podsPath = "/api/v1/namespaces/" + churn + "/pods"

func name(i int) string { return fmt.Sprintf("p%d", i) }

func (c *crowd) create(i int, set string) error {
	spec := map[string]any{
		"terminationGracePeriodSeconds": 0, "enableServiceLinks": false, "automountServiceAccountToken": false,
		"containers": []any{map[string]any{"name": "main", "image": cluster.AgnhostImage, "args": []string{"pause"}}},
	}
	if i < c.real {
		spec["nodeName"] = c.Node(1 + i%3).Name()
	} else {
		spec["schedulerName"] = "nobody" // bound to no node that exists it would be removed by the controller manager
	}
	return c.Request(c.T.Context(), http.MethodPost, podsPath, map[string]any{
		"metadata": map[string]any{"name": name(i), "labels": map[string]string{"set": set}}, "spec": spec}, nil)
}

func (c *crowd) relabel(i int, set string) error {
	return c.Request(c.T.Context(), http.MethodPatch, podsPath+"/"+name(i),
		map[string]any{"metadata": map[string]any{"labels": map[string]string{"set": set}}}, nil)
}

func (c *crowd) remove(i int) error {
	return c.Request(c.T.Context(), http.MethodDelete, podsPath+"/"+name(i), map[string]any{"gracePeriodSeconds": 0}, nil)
}

// settled waits until all that is known of the crowd agrees, everywhere.
func (c *crowd) settled(what string, pods int) {
	c.T.Helper()
	at := time.Now()
	c.Eventually(3*time.Minute, what+", and known everywhere", func() error { return c.agree(pods) })
	c.T.Logf("%s, and known everywhere after %.1f s", what, time.Since(at).Seconds())
}

// agree compares labels of pods, identities, slices and the kernels of all nodes.
func (c *crowd) agree(count int) error {
	k, err := c.known(c.T.Context())
	if err != nil {
		return err
	}
	if len(k.pods) != count {
		return fmt.Errorf("%d pods, not %d", len(k.pods), count)
	}
	running := 0
	for pod, p := range k.pods {
		number, ok := k.numbers[labelsOf(p.labels)]
		if !ok {
			return fmt.Errorf("%s with %v has no identity", pod, p.labels)
		}
		if p.node == "" {
			continue
		}
		running++
		if len(p.ips) != 2 || !slices.Equal(k.slices[pod].ips, p.ips) || k.slices[pod].identity != number {
			return fmt.Errorf("%s is identity %d at %v, a slice has %+v", pod, number, p.ips, k.slices[pod])
		}
	}
	if len(k.slices) != running {
		return fmt.Errorf("slices have %d endpoints of %d", len(k.slices), running)
	}
	return c.kernels(k)
}

// kernels compares the addresses of the crowd with every node's kernel.
func (c *crowd) kernels(k *known) error {
	return errors.Join(each(c.Nodes(), func(n *cluster.Node) error {
		out, err := n.Run(c.T.Context(), c.Program("probe")+" rows")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		rows, want := decode[map[string]int](c.T, out), make(map[string]int)
		for _, s := range k.slices {
			for _, ip := range s.ips {
				want[ip] = s.identity
			}
		}
		for ip, identity := range want {
			if rows[ip] != identity {
				return fmt.Errorf("the kernel of %s takes %s for %d, not for %d", n.Name(), ip, rows[ip], identity)
			}
		}
		for ip, identity := range rows {
			if _, ours := k.labels[identity]; ours && want[ip] == 0 {
				return fmt.Errorf("the kernel of %s takes %s, which is nobody's, for %d", n.Name(), ip, identity)
			}
		}
		return nil
	})...)
}

// nothingLeft: after the grace time there is no identity of the crowd, anywhere. Only the
// youngest of all stays, as the mark of where numbers stand.
func (c *crowd) nothingLeft() {
	c.T.Helper()
	at := time.Now()
	c.Eventually(2*time.Minute, "collected", func() error {
		k, err := c.known(c.T.Context())
		if err != nil {
			return err
		}
		delete(k.labels, k.youngest)
		if len(k.labels) > 0 {
			return fmt.Errorf("identities are left: %v", k.labels)
		}
		return c.kernels(k)
	})
	c.T.Logf("collected after %.1f s", time.Since(at).Seconds())
}

// labelsOf are the labels of an identity, by a pod's.
func labelsOf(labels map[string]string) string {
	all := []string{"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=" + churn, "k8s:io.cilium.k8s.namespace.labels.team=churn",
		"k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.cilium.k8s.policy.serviceaccount=default", "k8s:io.kubernetes.pod.namespace=" + churn}
	for key, value := range labels {
		all = append(all, "k8s:"+key+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// number is an identity's, by its object's name.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil {
		return -1
	}
	return n
}
