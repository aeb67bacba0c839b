// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// ClusterEnv names a cluster that is up (make cluster-up CLUSTER=name), for tests to
// use in the place of their own; they leave it up.
const ClusterEnv = "WEFT_TEST_CLUSTER"

// Suite is a cluster that the tests of a package share:
//
//	var suite = cluster.NewSuite(cluster.Options{Name: "test-dns"})
//
//	func TestMain(m *testing.M) { suite.Main(m) }
//
//	func TestX(t *testing.T) { c := suite.Cluster(t); … }
type Suite struct {
	options Options
	lent    bool // it was there, and stays
	once    sync.Once
	cluster *Cluster
	err     error
}

// T is what of *testing.T a Suite needs.
type T interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// NewSuite names the cluster; nothing is made before a test asks for it.
func NewSuite(o Options) *Suite {
	o.Bound = true
	s := &Suite{options: o}
	if name := os.Getenv(ClusterEnv); name != "" {
		s.options.Name, s.options.Bound, s.lent = name, false, true
	}
	return s
}

// Main runs the tests and takes the cluster away, also when it is asked to end. Of a
// test process that is killed the cluster ends too, and the next run clears what is left.
func (s *Suite) Main(m interface{ Run() int }) {
	os.Exit(s.run(m))
}

func (s *Suite) run(m interface{ Run() int }) int {
	at, err := newPlace(s.options.Name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "weft:", err)
		return 1
	}
	// Who runs the same tests in the same working tree waits.
	release, err := lock(filepath.Join(at.clusters(), ".suite-"+at.name))
	if err != nil {
		fmt.Fprintln(os.Stderr, "weft:", err)
		return 1
	}
	defer release()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		s.down()
		os.Exit(1)
	}()
	code := m.Run()
	if !s.down() {
		code = 1
	}
	return code
}

func (s *Suite) down() bool {
	if s.lent {
		return true
	}
	if err := Down(context.Background(), s.options); err != nil {
		fmt.Fprintln(os.Stderr, "weft:", err)
		return false
	}
	return true
}

// Cluster is the suite's, brought up for the first test that asks. If the test fails,
// everything about the cluster is gathered in a folder that the failure names.
func (s *Suite) Cluster(t T) *Cluster {
	t.Helper()
	s.once.Do(func() {
		if s.lent {
			s.cluster, s.err = Open(s.options)
		} else {
			s.cluster, s.err = Up(context.Background(), s.options)
		}
	})
	if s.err != nil {
		t.Fatalf("%v", s.err)
	}
	s.cluster.GatherOnFailure(t)
	return s.cluster
}

// GatherOnFailure is for a test that has a cluster of its own.
func (c *Cluster) GatherOnFailure(t T) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		dir, err := c.Gather(ctx)
		t.Errorf("logs and state of cluster %s are in %s", c.at.name, dir)
		if err != nil {
			t.Errorf("gathering them: %v", err)
		}
	})
}
