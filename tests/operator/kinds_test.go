// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package operator

import (
	"context"
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Whoever installs makes the operator and the kinds at once: it waits for them.
func TestAnOperatorWaitsForItsKinds(t *testing.T) {
	ctx, w := context.Background(), theWorld
	w.clear(t)
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	must(t, w.client.Get(ctx, client.ObjectKey{Name: "weftclusternetworkpolicies.weftmesh.io"}, crd))
	again := crd.DeepCopy()
	for _, field := range []string{"resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"} {
		unstructured.RemoveNestedField(again.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(again.Object, "status")
	must(t, w.client.Delete(ctx, crd))
	eventually(t, "the kind is gone", func() error {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(crd), crd); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is still there"), err)
		}
		return nil
	})

	p := operate(t, pools)
	eventually(t, "the operator says that it waits", func() error {
		if !p.said("waiting for the API server to serve our kinds") {
			return errors.New("it does not")
		}
		return nil
	})
	must(t, w.client.Create(ctx, again))
	p.leads()
}
