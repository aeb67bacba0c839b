// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// Install makes the CRDs as the chart has them, and the objects of other files, and
// returns when the kinds are served. root is that of the repository.
func Install(ctx context.Context, c client.Client, root string, others ...string) error {
	files, err := filepath.Glob(root + "/daemonset/chart/crd/*.yaml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("looking for CRDs: %v, %w", files, err)
	}
	for _, f := range append(files, others...) {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := Create(ctx, c, string(text)); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	for end := time.Now().Add(startTimeout); ; time.Sleep(pollInterval) {
		err := errors.Join(c.List(ctx, &v1alpha1.WeftIdentityList{}), c.List(ctx, &v1alpha1.WeftNodeList{}),
			c.List(ctx, &v1alpha1.WeftEndpointSliceList{}), c.List(ctx, &v1alpha1.WeftNetworkPolicyList{}),
			c.List(ctx, &v1alpha1.WeftClusterNetworkPolicyList{}))
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Create makes the objects of a text in YAML.
func Create(ctx context.Context, c client.Client, text string) error {
	for _, doc := range strings.Split(strings.TrimPrefix(text, "---\n"), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
			return err
		}
		if err := c.Create(ctx, obj); err != nil {
			return err
		}
	}
	return nil
}
