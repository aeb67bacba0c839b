// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

const defaultName = "weft"

// Options of a cluster.
type Options struct {
	Name  string    // empty: weft
	Nodes int       // 0: 2
	Bound bool      // it ends with this process, however that ends
	Log   io.Writer // a line for each step; nil: none
}

// Cluster is a cluster that runs, or is being made.
type Cluster struct {
	at    place
	log   io.Writer
	tools tools
	pki   *pki
	api   *api
	bound bool
	// What a node that is added is given.
	images []string
	nodes  []int // numbers
}

// record is what is written of a cluster that is up.
type record struct {
	Nodes  []int
	Port   int
	Tools  tools
	Images []string
}

func newCluster(o Options) (*Cluster, error) {
	at, err := newPlace(o.Name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{at: at, log: o.Log, bound: o.Bound}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Nodes < 1 || o.Nodes > 100 {
		return nil, fmt.Errorf("%d nodes: one to 100 are possible", o.Nodes)
	}
	for n := 1; n <= o.Nodes; n++ {
		c.nodes = append(c.nodes, n)
	}
	if !isFile(c.binary()) {
		return nil, fmt.Errorf("no program %s: run 'make cluster-build' first", c.binary())
	}
	return c, nil
}

func (c *Cluster) binary() string { return filepath.Join(c.at.bin(), "cluster") }

func (c *Cluster) say(format string, args ...any) {
	if c.log != nil {
		fmt.Fprintf(c.log, "== %s: %s\n", c.at.name, fmt.Sprintf(format, args...))
	}
}

// Kubeconfig is the path of the administrator's.
func (c *Cluster) Kubeconfig() string { return c.at.adminKubeconfig() }

// Name is the cluster's.
func (c *Cluster) Name() string { return c.at.name }

// Nodes are all nodes.
func (c *Cluster) Nodes() []*Node {
	var all []*Node
	for _, n := range c.nodes {
		all = append(all, c.Node(n))
	}
	return all
}

// Up makes a cluster and returns when its nodes have registered and have the images.
// They are not Ready, because nothing does their networking. A cluster that is up
// already and has as many nodes is left as it is. What fails is taken down again;
// the error names the folder with the logs.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, err
	}
	if err := c.at.checkDisk(); err != nil {
		return nil, err
	}
	release, err := lock(c.at.lock())
	if err != nil {
		return nil, err
	}
	defer release()
	switch there, err := Open(o); {
	case err == nil && len(there.nodes) == len(c.nodes):
		c.say("is up already")
		return there, nil
	case err == nil:
		return nil, fmt.Errorf("cluster %s is up with %d nodes: take it down first, or choose another name (CLUSTER=)", c.at.name, len(there.nodes))
	}
	if err := c.down(ctx); err != nil {
		return nil, fmt.Errorf("clearing what is left of an earlier cluster: %w", err)
	}
	if err := c.up(ctx); err != nil {
		// The context may be what ended it.
		dir, gathered := c.Gather(context.WithoutCancel(ctx))
		err = fmt.Errorf("bringing cluster %s up: %w\nlogs are in %s", c.at.name, err, dir)
		return nil, errors.Join(err, gathered, c.down(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// Build makes the programs of Kubernetes that are not in the cache yet.
func Build(ctx context.Context, o Options) error {
	c, err := newCluster(o)
	if err != nil {
		return err
	}
	_, err = c.makeTools(ctx)
	return err
}

// Open finds a cluster that is up.
func Open(o Options) (*Cluster, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(c.at.record())
	if err != nil {
		return nil, fmt.Errorf("cluster %s is not up: make cluster-up", c.at.name)
	}
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.at.record(), err)
	}
	if _, err := machine.PID1(c.at.machine(controlPlane)); err != nil {
		return nil, fmt.Errorf("cluster %s is not up any more (make cluster-down clears it): %w", c.at.name, err)
	}
	c.nodes, c.tools, c.images = r.Nodes, r.Tools, r.Images
	if c.pki, err = loadPKI(c.at.pki()); err != nil {
		return nil, err
	}
	c.api, err = newAPI(c.pki, r.Port)
	return c, err
}

func (c *Cluster) up(ctx context.Context) (err error) {
	if c.tools, err = c.makeTools(ctx); err != nil {
		return err
	}
	if c.images, err = c.makeImages(ctx); err != nil {
		return err
	}
	own, err := filepath.Glob(filepath.Join(c.at.weftImages(), "*.tar"))
	if err != nil {
		return err
	}
	c.images = append(c.images, own...)
	begin := time.Now()
	if c.pki, err = makePKI(c.at.pki()); err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	port, err := c.startControlPlane()
	if err != nil {
		return err
	}
	if err := c.writeAdmin(port); err != nil {
		return err
	}
	if c.api, err = newAPI(c.pki, port); err != nil {
		return err
	}
	control, err := machine.PID1(c.at.machine(controlPlane))
	if err != nil {
		return err
	}
	if err := c.startOutside(control.PID); err != nil {
		return err
	}
	if err := c.each(func(n *Node) error { return n.first(ctx) }); err != nil {
		return err
	}
	if err := c.ready(ctx, begin); err != nil {
		return err
	}
	return c.writeRecord()
}

// ready waits for the control plane and the nodes' registration and asks for CoreDNS.
func (c *Cluster) ready(ctx context.Context, begin time.Time) error {
	if err := c.api.ready(ctx); err != nil {
		return err
	}
	c.say("the API server is ready after %.1f s", time.Since(begin).Seconds())
	if err := c.Apply(ctx, coreDNS); err != nil {
		return fmt.Errorf("asking for CoreDNS: %w", err)
	}
	if err := c.waitRegistered(ctx); err != nil {
		return err
	}
	c.say("%d nodes have registered after %.1f s", len(c.nodes), time.Since(begin).Seconds())
	return nil
}

// each does something on every node at once.
func (c *Cluster) each(do func(*Node) error) error {
	nodes := c.Nodes()
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// LoadImage gives every node the images of an archive.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	return c.each(func(n *Node) error { return n.LoadImage(ctx, archive) })
}

func (c *Cluster) writeRecord() error {
	content, err := json.Marshal(record{Nodes: c.nodes, Port: c.api.port, Tools: c.tools, Images: c.images})
	if err == nil {
		err = os.WriteFile(c.at.record(), content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("noting that the cluster is up: %w", err)
	}
	return nil
}

// Down takes a cluster away, whole, half made or crashed. What Gather collected stays.
func Down(ctx context.Context, o Options) error {
	c, err := newCluster(o)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.at.dir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	release, err := lock(c.at.lock())
	if err != nil {
		return err
	}
	defer release()
	return c.down(ctx)
}

// Down takes this cluster away.
func (c *Cluster) Down(ctx context.Context) error {
	return Down(ctx, Options{Name: c.at.name, Log: c.log})
}

func (c *Cluster) down(ctx context.Context) error {
	machines, err := filepath.Glob(c.at.machine("*"))
	if err != nil {
		return err
	}
	errs := make([]error, len(machines))
	var all sync.WaitGroup
	for i, dir := range machines {
		all.Go(func() { errs[i] = machine.Remove(ctx, dir) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("taking cluster %s down: %w", c.at.name, err)
	}
	return c.removeFiles()
}

// removeFiles removes the cluster's folder but for what was gathered.
func (c *Cluster) removeFiles() error {
	entries, err := os.ReadDir(c.at.dir())
	if err != nil {
		return err
	}
	empty := true
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), failurePrefix) {
			empty = false
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(c.at.dir(), e.Name())))
	}
	if c.at.name == defaultName {
		err = errors.Join(err, os.RemoveAll(c.at.commonKubeconfig()))
	}
	if empty && err == nil {
		err = os.Remove(c.at.dir())
	}
	return err
}
