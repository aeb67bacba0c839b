// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// suite is the cluster of all tests. The first two nodes have the traffic; what happens
// to whole nodes happens to the third.
var suite = framework.NewSuite(framework.Options{Name: "test-outage", Nodes: 3, Programs: []string{"traffic"},
	Pods: 90 * time.Second, Weft: 120 * time.Second})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster, and what tests do with it.
type world struct{ *framework.World }

// installed is the cluster with Weft.
func installed(t *testing.T) *world {
	t.Helper()
	return &world{suite.Installed(t, framework.Tunnel())}
}

// again is the cluster for a part of a test that has it with Weft installed.
func again(t *testing.T) *world {
	t.Helper()
	return &world{suite.Bare(t)}
}

// lines are those that two texts do not have in common.
func lines(before, now string) error {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]++
	}
	var differ []string
	for line := range strings.Lines(now) {
		if count[line]--; count[line] < 0 {
			differ = append(differ, "new:  "+line)
		}
	}
	for line, n := range count {
		if n > 0 {
			differ = append(differ, "gone: "+line)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return fmt.Errorf("%d lines differ:\n%s", len(differ), strings.Join(differ, ""))
}
