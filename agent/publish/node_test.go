// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

func (s *apiServer) ready(t *testing.T) *metav1.Condition {
	t.Helper()
	node, err := s.nodes.Get(context.Background(), "n", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionReady)
}

func TestTheNodeSaysWhetherItIsReady(t *testing.T) {
	api := newAPIServer(t)
	n := NewNode(NodeConfig{Node: "n", Nodes: api.nodes, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)})
	tell := func(ready error, writes int) *metav1.Condition {
		t.Helper()
		api.ClearActions()
		if err := n.tell(t.Context(), ready); err != nil {
			t.Fatal(err)
		}
		if got := api.writes(); got != writes {
			t.Errorf("%d writes, want %d", got, writes)
		}
		return api.ready(t)
	}
	if c := tell(errors.New("2 rows are not in the kernel"), 1); c.Status != metav1.ConditionFalse || c.Message != "2 rows are not in the kernel" {
		t.Errorf("not ready: %+v", c)
	}
	first := tell(nil, 1)
	if first.Status != metav1.ConditionTrue || first.ObservedGeneration != 3 || first.LastTransitionTime.IsZero() {
		t.Errorf("ready: %+v", first)
	}
	if again := tell(nil, 0); *again != *first {
		t.Errorf("the same again: %+v", again)
	}
}

func TestTheStatusIsToldAgainAfterAFailureAndStaysAtTheEnd(t *testing.T) {
	api := newAPIServer(t)
	changed, calls := make(chan struct{}), make(chan struct{}, 100)
	n := NewNode(NodeConfig{Node: "n", Nodes: api.nodes, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Ready: func() error { calls <- struct{}{}; return nil }, Changed: func() <-chan struct{} { return changed }})
	failures := make(chan struct{}, 100)
	api.PrependReactor("update", "weftnodes", failOnce(failures))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }() // ends below
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c := api.ready(t); c != nil && c.Status == metav1.ConditionTrue {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the status was not told again within 20 s")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(failures) != 1 || len(calls) < 2 {
		t.Errorf("%d failures, asked %d times", len(failures), len(calls))
	}
	if c := api.ready(t); c.Status != metav1.ConditionTrue {
		t.Errorf("at the end: %+v", c)
	}
}

// failOnce lets the first request fail.
func failOnce(seen chan<- struct{}) clienttesting.ReactionFunc {
	var once sync.Once
	return func(clienttesting.Action) (failed bool, _ runtime.Object, err error) {
		once.Do(func() { failed, err = true, errors.New("conflict"); seen <- struct{}{} })
		return failed, nil, err
	}
}
