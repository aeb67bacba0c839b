// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

// refuse writes into a node's status what its proxy has against policies.
func refuse(t *testing.T, node string, faults ...v1alpha1.ProxyFault) {
	t.Helper()
	eventually(t, "the status of "+node+" is written", func() error {
		n := &v1alpha1.WeftNode{}
		must(t, theWorld.client.Get(context.Background(), client.ObjectKey{Name: node}, n))
		n.Status.ProxyFaults = faults
		return theWorld.client.Status().Update(context.Background(), n)
	})
}

// What proxies of nodes refuse is told at the policy, while they do and are there.
func TestPoliciesSayWhetherProxiesTakeThem(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	namespace(t, "proxied", nil)
	operate(t, "").leads()
	for _, name := range []string{"p1", "p2"} {
		must(t, c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
		eventually(t, name+" is known", func() error { return c.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.WeftNode{}) })
	}
	spec := &v1alpha1.PolicySpec{EndpointSelector: &metav1.LabelSelector{}, Ingress: []v1alpha1.IngressRule{{}}}
	p := &v1alpha1.WeftNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "proxied", Name: "p"}, Spec: spec}
	cluster := &v1alpha1.WeftClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec.DeepCopy()}
	t.Cleanup(func() { must(t, c.Delete(context.Background(), cluster)) })
	must(t, c.Create(ctx, p))
	must(t, c.Create(ctx, cluster))
	says := func(what string, status metav1.ConditionStatus, reason, message string) {
		t.Helper()
		eventually(t, what, func() error {
			must(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
			if err := valid(p.Status.Conditions, 1, status, message); err != nil {
				return err
			}
			if got := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionValid).Reason; got != reason {
				return fmt.Errorf("reason %s", got)
			}
			return nil
		})
	}
	says("before there is a fault", metav1.ConditionTrue, "Accepted", "")
	fault := v1alpha1.ProxyFault{Kind: v1alpha1.KindNetworkPolicy, Namespace: "proxied", Name: "p", Message: "the proxy refuses it: bad"}
	refuse(t, "p1", fault)
	says("one node refuses it", metav1.ConditionFalse, "RefusedByProxy", "on p1: the proxy refuses it: bad")
	refuse(t, "p2", fault)
	says("both do", metav1.ConditionFalse, "RefusedByProxy", "on p1, p2: ")
	must(t, c.Get(ctx, client.ObjectKeyFromObject(cluster), cluster))
	if err := valid(cluster.Status.Conditions, 1, metav1.ConditionTrue, ""); err != nil {
		t.Errorf("another kind of the same name: %v", err)
	}
	refuse(t, "p1")
	says("one takes it", metav1.ConditionFalse, "RefusedByProxy", "on p2: ")
	must(t, c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "p2"}}))
	says("the other one is gone", metav1.ConditionTrue, "Accepted", "")
}

// dryRun asks the API server for a policy's spec, in both kinds.
func dryRun(t *testing.T, spec string) error {
	t.Helper()
	var content v1alpha1.PolicySpec
	must(t, json.Unmarshal([]byte(spec), &content))
	content.EndpointSelector = &metav1.LabelSelector{}
	name := metav1.ObjectMeta{Namespace: "default", Name: "p"}
	err := theWorld.client.Create(context.Background(), &v1alpha1.WeftNetworkPolicy{ObjectMeta: name, Spec: &content}, client.DryRunAll)
	also := theWorld.client.Create(context.Background(), &v1alpha1.WeftClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p"}, Specs: []v1alpha1.PolicySpec{content}}, client.DryRunAll)
	if (err == nil) != (also == nil) {
		t.Errorf("%s: the kinds differ: %v, %v", spec, err, also)
	}
	return err
}

// Ports and ranges that cannot be are refused by the name of their field.
func TestTheAPIServerRefusesPortsAndRangesThatCannotBe(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"70000"}]}]}]}`, "spec.ingress[0].toPorts[0].ports[0].port: Invalid value: \"70000\""},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"080"}]}]}]}`, "spec.ingress[0].toPorts[0].ports[0].port"},
		{`{"egressDeny":[{"toPorts":[{"ports":[{"port":"http_"}]}]}]}`, "spec.egressDeny[0].toPorts[0].ports[0].port"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"1","endPort":70000}]}]}]}`, "spec.ingress[0].toPorts[0].ports[0].endPort"},
		{`{"ingress":[{"toPorts":[{"ports":[{"port":"90","endPort":80}]}]}]}`, "ingress[].toPorts[].ports[].endPort: must not be below port"},
		{`{"egress":[{"toPorts":[{"ports":[{"port":"1","endPort":2},{"port":"http","endPort":80}]}]}]}`, "egress[].toPorts[].ports[].endPort"},
		{`{"egressDeny":[{"toPorts":[{"ports":[{"port":"0","endPort":80}]}]}]}`, "egressDeny[].toPorts[].ports[].endPort"},
		{`{"ingressDeny":[{"toPorts":[{"ports":[{"port":"90","endPort":89}]}]}]}`, "ingressDeny[].toPorts[].ports[].endPort"},
		{`{"ingress":[{"fromCIDR":["10.0.0.0/8","300.0.0.0/8"]}]}`, "spec.ingress[0].fromCIDR[1]: Invalid value: \"300.0.0.0/8\""},
		{`{"egress":[{"toCIDR":["fd00::/129"]}]}`, "spec.egress[0].toCIDR[0]"},
		{`{"egress":[{"toCIDRSet":[{"cidr":"10.0.0.0"}]}]}`, "spec.egress[0].toCIDRSet[0].cidr"},
		{`{"egress":[{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.1.1.1"]}]}]}`, "spec.egress[0].toCIDRSet[0].except[1]"},
	} {
		eventually(t, c.spec+" is refused", func() error {
			err := dryRun(t, c.spec)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				return fmt.Errorf("got %v, want %s", err, c.want)
			}
			return nil
		})
	}
	for _, good := range []string{
		`{"ingress":[{"toPorts":[{"ports":[{"port":"0"},{"port":"65535"},{"port":"8080","endPort":8080},{"port":"http-2"},{"protocol":"IGMP"}]}]}]}`,
		`{"egress":[{"toCIDR":["0.0.0.0/0","::/0","::1","192.0.2.1","2001:db8::192.0.2.1/128"]}]}`,
		`{"egressDeny":[{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}],"toPorts":[{"ports":[{"port":"1","endPort":65535}]}]}]}`,
	} {
		if err := dryRun(t, good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
