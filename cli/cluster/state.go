// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// State is what the API server knows of Weft.
type State struct {
	Cluster    string    `json:"cluster"`
	Namespace  string    `json:"namespace"`
	Agents     *Workload `json:"agents,omitempty"`   // the DaemonSet; nil: it is not there
	Operator   *Workload `json:"operator,omitempty"` // the Deployment; nil: it is not there
	Leader     *Leader   `json:"leader,omitempty"`   // nil: nobody leads
	Identities int64     `json:"identities"`
	Nodes      []Node    `json:"nodes"` // by name
}

// Workload is how far a DaemonSet or Deployment has got.
type Workload struct {
	Name    string `json:"name"`
	Desired int32  `json:"desired"`
	Updated int32  `json:"updated"` // pods of the newest template
	Ready   int32  `json:"ready"`
	Rolled  bool   `json:"rolledOut"` // all are of the newest template, and ready
}

// Leader is the operator that acts.
type Leader struct {
	Name    string    `json:"name"`
	Renewed time.Time `json:"renewed"`
	Expired bool      `json:"expired"` // it has not renewed its lease in time
}

// Node is a WeftNode, or a node of the cluster that has none.
type Node struct {
	Name         string `json:"name"`
	AgentVersion string `json:"agentVersion,omitempty"`
	Ready        bool   `json:"ready"`
	Message      string `json:"message,omitempty"` // why it is not ready
	// Unattached are pods, namespace/name, that run there without Weft.
	Unattached []string `json:"unattached,omitempty"`
}

// State reads it; now is the time by which a lease is judged.
func (c *Cluster) State(ctx context.Context, now time.Time) (*State, error) {
	s := &State{Cluster: c.Name, Namespace: c.Namespace}
	ds, err := c.Kube.AppsV1().DaemonSets(c.Namespace).Get(ctx, AgentName, metav1.GetOptions{})
	if err = present(err); err != nil {
		return nil, c.failed("reading DaemonSet "+AgentName, err)
	} else if ds != nil && ds.Name != "" {
		s.Agents = daemonSet(ds)
	}
	deployment, err := c.Kube.AppsV1().Deployments(c.Namespace).Get(ctx, OperatorName, metav1.GetOptions{})
	if err = present(err); err != nil {
		return nil, c.failed("reading Deployment "+OperatorName, err)
	} else if deployment != nil && deployment.Name != "" {
		s.Operator = deploymentOf(deployment)
	}
	if s.Leader, err = c.leader(ctx, now); err != nil {
		return nil, c.failed("reading Lease "+OperatorName, err)
	}
	if s.Identities, err = c.identities(ctx); err != nil {
		return nil, c.failed("counting WeftIdentities", err)
	}
	if s.Nodes, err = c.nodes(ctx); err != nil {
		return nil, c.failed("listing nodes", err)
	}
	return s, nil
}

// present lets pass that an object is not there: the state then lacks it.
func present(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func daemonSet(ds *appsv1.DaemonSet) *Workload {
	w := &Workload{Name: ds.Name, Desired: ds.Status.DesiredNumberScheduled, Updated: ds.Status.UpdatedNumberScheduled, Ready: ds.Status.NumberReady}
	w.Rolled = ds.Status.ObservedGeneration >= ds.Generation && w.Updated >= w.Desired && w.Ready >= w.Desired
	return w
}

func deploymentOf(d *appsv1.Deployment) *Workload {
	w := &Workload{Name: d.Name, Desired: 1, Updated: d.Status.UpdatedReplicas, Ready: d.Status.ReadyReplicas}
	if d.Spec.Replicas != nil {
		w.Desired = *d.Spec.Replicas
	}
	w.Rolled = d.Status.ObservedGeneration >= d.Generation && w.Updated >= w.Desired && w.Ready >= w.Desired
	return w
}

func (c *Cluster) leader(ctx context.Context, now time.Time) (*Leader, error) {
	lease, err := c.Kube.CoordinationV1().Leases(c.Namespace).Get(ctx, OperatorName, metav1.GetOptions{})
	if err != nil {
		return nil, present(err)
	}
	spec := lease.Spec
	if spec.HolderIdentity == nil || *spec.HolderIdentity == "" || spec.RenewTime == nil {
		return nil, nil
	}
	l := &Leader{Name: *spec.HolderIdentity, Renewed: spec.RenewTime.Time}
	if spec.LeaseDurationSeconds != nil {
		l.Expired = now.After(l.Renewed.Add(time.Duration(*spec.LeaseDurationSeconds) * time.Second))
	}
	return l, nil
}

func resource(name string) schema.GroupVersionResource {
	return v1alpha1.GroupVersion().WithResource(name)
}

// identities counts without reading all of them: the server tells how many remain.
func (c *Cluster) identities(ctx context.Context) (int64, error) {
	list, err := c.Dynamic.Resource(resource("weftidentities")).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, present(err)
	}
	n := int64(len(list.Items))
	if more := list.GetRemainingItemCount(); more != nil {
		n += *more
	}
	return n, nil
}

func (c *Cluster) nodes(ctx context.Context) ([]Node, error) {
	list, err := c.Dynamic.Resource(resource("weftnodes")).List(ctx, metav1.ListOptions{})
	if err = present(err); err != nil {
		return nil, err
	}
	all := make(map[string]Node)
	if list != nil {
		for i := range list.Items {
			n, err := weftNode(&list.Items[i])
			if err != nil {
				return nil, err
			}
			all[n.Name] = n
		}
	}
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := []Node{}
	for i := range nodes.Items {
		name := nodes.Items[i].Name
		n, ok := all[name]
		if !ok {
			n = Node{Name: name, Message: "it has no WeftNode: the operator has not written one"}
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func weftNode(u *unstructured.Unstructured) (Node, error) {
	var n v1alpha1.WeftNode
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n); err != nil {
		return Node{}, fmt.Errorf("WeftNode %s: %w", u.GetName(), err)
	}
	out := Node{Name: n.Name, AgentVersion: n.Status.AgentVersion}
	ready := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		out.Message = "its agent has not said that it is Ready"
	case ready.Status == metav1.ConditionTrue:
		out.Ready = true
	default:
		out.Message = cmp.Or(ready.Message, ready.Reason)
	}
	return out, nil
}

// Missing is what keeps a cluster from being ready, by its API server; empty: it is.
func (s *State) Missing() []string {
	var out []string
	rollout := func(w *Workload, kind, name string) {
		switch {
		case w == nil:
			out = append(out, fmt.Sprintf("%s %s/%s is not there", kind, s.Namespace, name))
		case !w.Rolled:
			out = append(out, fmt.Sprintf("%s %s: %d of %d pods are ready, %d of the newest template", kind, name, w.Ready, w.Desired, w.Updated))
		}
	}
	rollout(s.Agents, "DaemonSet", AgentName)
	rollout(s.Operator, "Deployment", OperatorName)
	switch {
	case s.Operator == nil:
	case s.Leader == nil:
		out = append(out, "no operator leads: Lease "+OperatorName+" has no holder")
	case s.Leader.Expired:
		out = append(out, fmt.Sprintf("no operator leads: %s held Lease %s last", s.Leader.Name, OperatorName))
	}
	for _, n := range s.Nodes {
		if !n.Ready {
			out = append(out, fmt.Sprintf("node %s: %s", n.Name, n.Message))
		}
	}
	return out
}
