// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/tests/apiserver"
)

func leases(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, coordinationv1.AddToScheme(scheme))
	c, err := client.New(theWorld.server.Config(apiserver.Admin), client.Options{Scheme: scheme})
	must(t, err)
	return c
}

func holder(t *testing.T, c client.Client) string {
	t.Helper()
	var l coordinationv1.Lease
	must(t, c.Get(context.Background(), client.ObjectKey{Namespace: system, Name: "weft-operator"}, &l))
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// pair starts two operators, the first of which leads.
func pair(t *testing.T) (leader, other *process) {
	t.Helper()
	leader = operate(t, pools).leads()
	other = operate(t, pools)
	eventually(t, "the second waits and is ready", func() error {
		if _, err := other.page("/readyz"); err != nil {
			return err
		}
		return other.has("weft_operator_leader 0")
	})
	return leader, other
}

func create(t *testing.T, ns, app string) {
	t.Helper()
	must(t, theWorld.client.Create(context.Background(), pod(ns, app, map[string]string{"app": app})))
}

func TestALeaderThatEndsHandsOverAtOnce(t *testing.T) {
	theWorld.clear(t)
	namespace(t, "ends", nil)
	first, second := pair(t)
	create(t, "ends", "one")
	one := eventuallyFind(t, "k8s:app=one")
	start := time.Now()
	first.end(syscall.SIGTERM)
	if code := first.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	second.leads()
	took := time.Since(start)
	t.Logf("handed over in %s", took)
	if took > 10*time.Second { // a Lease that is not released ends after 15
		t.Errorf("handed over in %s", took)
	}
	create(t, "ends", "two")
	if two := eventuallyFind(t, "k8s:app=two"); two == one || eventuallyFind(t, "k8s:app=one") != one {
		t.Errorf("one is %s, two is %s", one, two)
	}
	second.end(syscall.SIGTERM)
	if h := holder(t, leases(t)); h != "" {
		t.Errorf("the Lease is left with %s", h)
	}
}

func TestAfterAKilledLeaderNoNumberIsUsedAgain(t *testing.T) {
	theWorld.clear(t)
	namespace(t, "killed", nil)
	first, second := pair(t)
	seen := map[string]string{}
	for i := range 10 {
		create(t, "killed", fmt.Sprint("before-", i))
	}
	for i := range 10 {
		seen[eventuallyFind(t, fmt.Sprint("k8s:app=before-", i))] = "before"
	}
	for i := range 10 { // in the midst of it
		create(t, "killed", fmt.Sprint("midst-", i))
	}
	first.end(syscall.SIGKILL)
	create(t, "killed", "after") // while no one leads
	second.leads()
	for i := range 10 {
		seen[eventuallyFind(t, fmt.Sprint("k8s:app=midst-", i))] = "midst"
		eventuallyFind(t, fmt.Sprint("k8s:app=before-", i))
	}
	seen[eventuallyFind(t, "k8s:app=after")] = "after"
	if len(seen) != 21 || len(identities(t)) != 21 {
		t.Errorf("%d numbers for 21 label sets: %v", len(seen), identities(t))
	}
}

// A leader that stands still, and goes on when another one leads, writes nothing
// more and ends.
func TestALeaderThatWasHeldUpWritesNoMore(t *testing.T) {
	theWorld.clear(t)
	namespace(t, "held", nil)
	first, second := pair(t)
	create(t, "held", "one")
	eventuallyFind(t, "k8s:app=one")
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP))
	for i := range 50 { // that both will see
		create(t, "held", fmt.Sprint("pod-", i))
	}
	second.leads()
	for i := range 50 {
		eventuallyFind(t, fmt.Sprint("k8s:app=pod-", i))
	}
	for i := range 50 {
		create(t, "held", fmt.Sprint("more-", i))
	}
	must(t, first.cmd.Process.Signal(syscall.SIGCONT))
	select {
	case <-first.done:
	case <-time.After(deadline):
		t.Fatal("the first one goes on")
	}
	if err := first.cmd.Wait(); err == nil || !first.said("leader election lost") {
		t.Errorf("it ended with %v", err)
	}
	for i := range 50 {
		eventuallyFind(t, fmt.Sprint("k8s:app=more-", i))
	}
	for labels, numbers := range identities(t) {
		if len(numbers) != 1 {
			t.Errorf("%s has %v", strings.ReplaceAll(labels, "\n", " "), numbers)
		}
	}
	if body, err := second.page("/metrics"); err != nil || !strings.Contains(body, `weft_operator_identity_allocations_total{result="failed"} 0`) {
		t.Errorf("failed allocations, %v:\n%s", err, body)
	}
}
