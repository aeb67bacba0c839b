// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"os"
	"path"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// TunnelEnv says how pods' packets go between nodes, for suites that ask Tunnel: none (or
// not set), or vxlan.
const TunnelEnv = "WEFT_TEST_TUNNEL"

// Chart is what follows helm install: the chart of the sources, on a cluster.
const Chart = " weft daemonset/chart --namespace weft-system --create-namespace --set apiServer.host=" + cluster.RouterIPv4

// Options of a suite.
type Options struct {
	Name     string   // of the cluster
	Nodes    int      // of the cluster
	Programs []string // folders of tests/cluster; pods have what is built in /programs
	// How long pods, and Weft everywhere, may take to be ready on a machine that has
	// other work.
	Pods, Weft time.Duration
	Poll       time.Duration // between two looks; 0: 100 ms
}

// Suite is the tests of a package, which share a cluster.
type Suite struct {
	*cluster.Suite
	options Options
}

// NewSuite names the cluster; nothing is made before a test asks for it.
func NewSuite(o Options) *Suite {
	if o.Poll == 0 {
		o.Poll = 100 * time.Millisecond
	}
	return &Suite{cluster.NewSuite(cluster.Options{Name: o.Name, Nodes: o.Nodes, Log: os.Stderr}), o}
}

// Bare is the cluster as it is, with the programs that tests need.
func (s *Suite) Bare(t testing.TB) *World {
	t.Helper()
	w := &World{Cluster: s.Cluster(t), T: t, options: s.options}
	for _, folder := range s.options.Programs {
		if err := w.BuildProgram(t.Context(), folder, w.Program(path.Base(folder))); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// Installed is the cluster with Weft; if it has none, Helm installs it with more options.
func (s *Suite) Installed(t testing.TB, options string) *World {
	t.Helper()
	w := s.Bare(t)
	if !w.HasWeft() {
		w.Shell("helm install" + Chart + options)
		w.Settled()
	}
	return w
}

// Tunnel are the options of Helm's that the environment asks for.
func Tunnel() string {
	if tunnel := os.Getenv(TunnelEnv); tunnel != "" && tunnel != "none" {
		return " --set tunnel.protocol=" + tunnel
	}
	return ""
}
