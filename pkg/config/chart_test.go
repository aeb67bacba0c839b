// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestChartWritesWhatIsRead: what the chart makes of its default values and of odd
// ones (kept by tools/helm) is a configuration.
func TestChartWritesWhatIsRead(t *testing.T) {
	files, err := filepath.Glob("../../tools/helm/testdata/config-*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("files of the chart: %v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(f, data, "node-1")
		if err != nil {
			t.Error(err)
			continue
		}
		if !c.Kubernetes.Enabled || !c.CNI.Install || len(c.ClusterCIDRs) == 0 {
			t.Errorf("%s: %+v", f, c)
		}
	}
}
