// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readyProbes is how many probes of the kubelet must come through.
const readyProbes = 2

// stayReady waits until the kubelet has probed each server again, and looks whether
// the pod is still ready.
func stayReady(ctx context.Context, r *runner, t *testRun) []Result {
	var results []Result
	for _, p := range r.stage.servers() {
		result := Result{Test: t.test.Name, Check: "the kubelet's probes reach " + p.Name + " under the policy", Status: OK}
		if happened := r.probed(ctx, p); happened != "" {
			result.Status, result.Expected, result.Happened = Failed, "the pod is probed and stays ready", happened
			result.Hint = "weft observe --verdict dropped --to-pod " + p.key() + " --since 1m"
		}
		results = append(results, result)
	}
	return results
}

// probed is empty if all is well.
func (r *runner) probed(ctx context.Context, p *Pod) string {
	count := func() (int, error) {
		outcomes, err := r.probe(ctx, p.caller(), []Probe{{Kind: KindHTTP, Address: "localhost:" + strconv.Itoa(portTCP) + "/probed", Timeout: answerIn}})
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(outcomes[0].Answer)
	}
	first, err := count()
	until := time.Now().Add(settleIn)
	for n := first; err == nil && n < first+readyProbes; n, err = count() {
		if !time.Now().Before(until) || ctx.Err() != nil {
			return fmt.Sprintf("%d probes came in %v", n-first, settleIn)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	if err != nil {
		return err.Error()
	}
	pod, err := r.Cluster.Kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	if !podReady(pod) {
		return notReady(pod)
	}
	return ""
}
