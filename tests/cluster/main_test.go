// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"testing"
)

// suite is the cluster of the tests that change nothing for good.
var suite = NewSuite(Options{Name: "test", Nodes: 2, Log: os.Stderr})

func TestMain(m *testing.M) { suite.Main(m) }
