// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// identities reads all, by their labels.
func identities(t *testing.T) map[string][]string {
	t.Helper()
	var all v1alpha1.WeftIdentityList
	must(t, theWorld.client.List(context.Background(), &all))
	out := map[string][]string{}
	for _, i := range all.Items {
		key := strings.Join(i.SecurityLabels, " ")
		out[key] = append(out[key], i.Name)
	}
	return out
}

// find returns the only number whose labels contain all of these.
func find(t *testing.T, want ...string) (string, error) {
	t.Helper()
	var found []string
	for labels, names := range identities(t) {
		if !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(strings.Fields(labels), w) }) {
			found = append(found, names...)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("identities with %v: %v", want, found)
	}
	return found[0], nil
}

func eventuallyFind(t *testing.T, want ...string) string {
	t.Helper()
	var id string
	eventually(t, "an identity", func() (err error) { id, err = find(t, want...); return err })
	return id
}

func TestPodsGetIdentitiesByTheirLabels(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	namespace(t, "shop", map[string]string{"team": "red"})
	p := operate(t, "clusterName: east\nidentityLabels:\n  exclude: [pod-template-hash]\n").leads()
	for i := range 3 {
		o := pod("shop", fmt.Sprint("web-", i), map[string]string{"app": "web", "pod-template-hash": fmt.Sprint(i)})
		o.Spec.ServiceAccountName = "seller"
		must(t, c.Create(ctx, o))
	}
	host := pod("shop", "host", map[string]string{"app": "host"})
	host.Spec.HostNetwork = true
	must(t, c.Create(ctx, host))
	must(t, c.Create(ctx, pod("shop", "db", map[string]string{"app": "db"})))
	red := eventuallyFind(t, "k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=east",
		"k8s:io.cilium.k8s.policy.serviceaccount=seller", "k8s:io.cilium.k8s.namespace.labels.team=red")
	db := eventuallyFind(t, "k8s:app=db")
	if all := identities(t); len(all) != 2 {
		t.Errorf("identities: %v", all)
	}
	eventually(t, "metrics", func() error {
		if err := p.has(`weft_operator_identity_allocations_total{result="created"} 2`); err != nil {
			return err
		}
		return p.has("weft_operator_identities 2")
	})
	// Labels of the namespace are part: its pods get others, and the old stay while endpoints may have them.
	must(t, c.Patch(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"blue"}}}`))))
	blue := eventuallyFind(t, "k8s:app=web", "k8s:io.cilium.k8s.namespace.labels.team=blue")
	eventuallyFind(t, "k8s:app=db", "k8s:io.cilium.k8s.namespace.labels.team=blue")
	if len(identities(t)) != 4 || blue == red || blue == db {
		t.Errorf("identities: %v", identities(t))
	}
	// One that is deleted by hand while in use is there again, with its number.
	must(t, c.Delete(ctx, &v1alpha1.WeftIdentity{ObjectMeta: metav1.ObjectMeta{Name: blue}}))
	if again := eventuallyFind(t, "k8s:app=web", "k8s:io.cilium.k8s.namespace.labels.team=blue"); again != blue {
		t.Errorf("%s became %s", blue, again)
	}
}

func TestOneBadPodHoldsUpNoOther(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	namespace(t, "crowd", nil)
	operate(t, "").leads()
	many := map[string]string{}
	for i := range 300 { // more than a WeftIdentity holds
		many[fmt.Sprint("label-", i)] = "x"
	}
	must(t, c.Create(ctx, pod("crowd", "bad", many)))
	for i := range 20 {
		must(t, c.Create(ctx, pod("crowd", fmt.Sprint("good-", i), map[string]string{"app": fmt.Sprint("good-", i)})))
	}
	for i := range 20 {
		eventuallyFind(t, fmt.Sprint("k8s:app=good-", i))
	}
	eventually(t, "an event at the bad pod", func() error {
		var found corev1.EventList
		err := c.List(ctx, &found, client.InNamespace("crowd"), client.MatchingFieldsSelector{
			Selector: fields.OneTermEqualSelector("reason", "IdentityFailed")})
		if err == nil && (len(found.Items) == 0 || !strings.Contains(found.Items[0].Message, "securityLabels")) {
			err = fmt.Errorf("events: %v", found.Items)
		}
		return err
	})
}

func TestUnusedIdentitiesAreCollectedUsedOnesStay(t *testing.T) {
	ctx, c := context.Background(), theWorld.client
	theWorld.clear(t)
	namespace(t, "waste", nil)
	p := operate(t, "  identityGrace: 2s\n").leads()
	for _, name := range []string{"kept", "named", "unused", "newest"} {
		must(t, c.Create(ctx, pod("waste", name, map[string]string{"app": name})))
		eventuallyFind(t, "k8s:app="+name)
	}
	named, unused := eventuallyFind(t, "k8s:app=named"), eventuallyFind(t, "k8s:app=unused")
	var number int64
	_, err := fmt.Sscan(named, &number)
	must(t, err)
	must(t, c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	slice := &v1alpha1.WeftEndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "n1-a"}, NodeName: "n1",
		Endpoints: []v1alpha1.SliceEndpoint{{Namespace: "waste", Name: "named", Identity: number, Addresses: []string{"10.244.0.5"}}}}
	must(t, c.Create(ctx, slice))
	for _, name := range []string{"named", "unused", "newest"} {
		must(t, c.Delete(ctx, pod("waste", name, nil), client.GracePeriodSeconds(0)))
	}
	eventually(t, "the unused one is gone", func() error {
		if _, err := find(t, "k8s:app=unused"); err == nil {
			return fmt.Errorf("%s is there", unused)
		}
		return nil
	})
	eventuallyFind(t, "k8s:app=kept")
	eventuallyFind(t, "k8s:app=named")
	eventuallyFind(t, "k8s:app=newest") // tells the next leader where numbers stood
	// The slice goes with its node, and the identity with the slice.
	must(t, c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	eventually(t, "what the node left is gone", func() error {
		for _, o := range []client.Object{&v1alpha1.WeftNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, slice,
			&v1alpha1.WeftIdentity{ObjectMeta: metav1.ObjectMeta{Name: named}}} {
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err == nil {
				return fmt.Errorf("%T %s is there", o, o.GetName())
			}
		}
		return nil
	})
	eventually(t, "metrics", func() error { return p.has(`weft_operator_collected_total{kind="WeftIdentity"} 2`) })
	must(t, c.Create(ctx, pod("waste", "late", map[string]string{"app": "late"})))
	if late := eventuallyFind(t, "k8s:app=late"); late == named || late == unused {
		t.Errorf("%s is used again at once", late)
	}
}
