// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

func valid(conditions []metav1.Condition, generation int64, status metav1.ConditionStatus, message string) error {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionValid)
	if c == nil || c.Status != status || c.ObservedGeneration != generation || !strings.Contains(c.Message, message) {
		return fmt.Errorf("generation %d has %+v", generation, conditions)
	}
	return nil
}

// A policy that the schema lets pass, and the conversion does not.
func TestPoliciesSayWhetherTheyAreValid(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	namespace(t, "rules", nil)
	operate(t, "").leads()
	all := &metav1.LabelSelector{}
	bad := []v1alpha1.EgressRule{{EgressPeers: v1alpha1.EgressPeers{ToCIDRSet: []v1alpha1.CIDRRule{
		{CIDR: "10.0.0.0/8", Except: []v1alpha1.CIDR{"192.168.0.0/16"}}}}}}
	p := &v1alpha1.WeftNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "rules", Name: "p"},
		Spec: &v1alpha1.PolicySpec{EndpointSelector: all, Egress: bad}}
	must(t, c.Create(ctx, p))
	cluster := &v1alpha1.WeftClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cp"},
		Spec: &v1alpha1.PolicySpec{EndpointSelector: all, Ingress: []v1alpha1.IngressRule{{}}}}
	must(t, c.Create(ctx, cluster))
	eventually(t, "the fault is named", func() error {
		must(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		return valid(p.Status.Conditions, 1, metav1.ConditionFalse, "spec.egress[0].toCIDRSet[0].except[0]: ")
	})
	eventually(t, "the good one is said to be so", func() error {
		must(t, c.Get(ctx, client.ObjectKeyFromObject(cluster), cluster))
		return valid(cluster.Status.Conditions, 1, metav1.ConditionTrue, "")
	})
	p.Spec.Egress[0].ToCIDRSet[0].Except[0] = "10.1.0.0/16"
	must(t, c.Update(ctx, p))
	eventually(t, "the remedy helps", func() error {
		must(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		return valid(p.Status.Conditions, 2, metav1.ConditionTrue, "")
	})
}
