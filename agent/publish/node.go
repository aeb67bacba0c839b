// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
)

// Reasons of the condition Ready.
const (
	reasonProven = "DatapathProven"
	reasonFaulty = "NotProven"
)

// NodeConfig is what Node works with.
type NodeConfig struct {
	Node    string
	Nodes   NodeClient
	Version string
	Log     *slog.Logger
	// Ready tells why the node's datapath does not work, or nil.
	Ready func() error
	// Faults are what the node's proxy has against policies; false: not all of it is
	// known now, and what was told stands. Nil: there is no proxy.
	Faults func() ([]Fault, bool)
	// Changed closes when Ready or Faults may answer otherwise.
	Changed func() <-chan struct{}
}

// Node keeps the status of the node's WeftNode.
type Node struct {
	cfg    NodeConfig
	last   error // told, if told
	faults []v1alpha1.ProxyFault
	told   bool
	at     time.Time
}

// NewNode makes one; Run does the work.
func NewNode(cfg NodeConfig) *Node { return &Node{cfg: cfg} }

// Run writes the status when it changes, and again now and then, until ctx ends.
// What was written stays then: the datapath works on without the agent.
func (n *Node) Run(ctx context.Context) error {
	return follow(ctx, n.cfg.Log, n.cfg.Changed, func() (time.Duration, error) {
		ready := n.cfg.Ready()
		faults, known := n.proxyFaults()
		if left := checkEvery - time.Since(n.at); n.told && same(ready, n.last) && (!known || slices.Equal(faults, n.faults)) && left > 0 {
			return left, nil
		}
		return checkEvery, n.tell(ctx, ready)
	})
}

// proxyFaults are those to tell; false: those that were told stand.
func (n *Node) proxyFaults() ([]v1alpha1.ProxyFault, bool) {
	if n.cfg.Faults == nil {
		return nil, true
	}
	list, known := n.cfg.Faults()
	return toTell(list), known
}

func same(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}

func (n *Node) tell(ctx context.Context, ready error) error {
	node, err := n.cfg.Nodes.Get(ctx, n.cfg.Node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading WeftNode %s: %w", n.cfg.Node, k8s.Short(err))
	}
	before := node.Status.DeepCopy()
	faults, known := n.proxyFaults()
	if known {
		node.Status.ProxyFaults = faults
	}
	cond := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: reasonProven,
		Message: "the datapath works", ObservedGeneration: node.Generation}
	if ready != nil {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, reasonFaulty, ready.Error()
	}
	meta.SetStatusCondition(&node.Status.Conditions, cond)
	node.Status.AgentVersion = n.cfg.Version
	if !equality.Semantic.DeepEqual(before, &node.Status) {
		if _, err := n.cfg.Nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("writing the status of WeftNode %s: %w", n.cfg.Node, k8s.Short(err))
		}
		n.cfg.Log.Info("the node's status is told", "ready", cond.Status, "message", cond.Message, "proxyFaults", len(node.Status.ProxyFaults))
	}
	n.last, n.faults, n.told, n.at = ready, node.Status.ProxyFaults, true, time.Now()
	return nil
}
