// SPDX-License-Identifier: Apache-2.0

// Command ctl is the daily cluster from the command line, behind the Makefile's
// cluster targets; it is built as build/bin/cluster. CLUSTER in the environment
// names the cluster, NODES says how many nodes a new one has.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/dump"
	"github.com/weftmesh/weft/tests/cluster/machine"
)

const usage = "usage: cluster build | up | shell [COMMAND] | node N [COMMAND] | load [ARCHIVE] | gather | down; " +
	"COMMAND is one argument, for a shell; CLUSTER=name and NODES=n are read from the environment"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "weft:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command, rest := "", []string(nil)
	if len(args) > 0 {
		command, rest = args[0], args[1:]
	}
	o := cluster.Options{Name: os.Getenv("CLUSTER"), Log: os.Stdout}
	switch command {
	case "build":
		return cluster.Build(ctx, o)
	case "up":
		return up(ctx, o)
	case "down":
		return cluster.Down(ctx, o)
	case "shell":
		return shell(o, rest)
	case "node":
		return node(o, rest)
	case "load":
		return load(ctx, o, rest)
	case "gather":
		return gather(ctx, o)
	case "machine": // PID 1 of a machine: package machine calls this
		if len(rest) == 1 {
			machine.Main(rest[0])
		}
	case "maps": // on a machine: package cluster calls this, and the next three
		return dump.Maps(os.Stdout, "/sys/fs/bpf/weft")
	case "network":
		return dump.Network(os.Stdout)
	case "processes":
		return dump.Processes(os.Stdout)
	case "attached":
		return dump.Attached(os.Stdout)
	case "enter": // a command on a machine: package cluster calls this
		if len(rest) > 2 {
			return machine.Enter(rest[0], rest[2:], []string{rest[1]})
		}
	}
	return errors.New(usage)
}

func up(ctx context.Context, o cluster.Options) error {
	if nodes := os.Getenv("NODES"); nodes != "" {
		n, err := strconv.Atoi(nodes)
		if err != nil || n < 1 {
			return fmt.Errorf("NODES=%s: a number from 1 is wanted", nodes)
		}
		o.Nodes = n
	}
	c, err := cluster.Up(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("== %s: up, with no network plugin; KUBECONFIG=%s\n", c.Name(), c.Kubeconfig())
	return nil
}

// shell runs a command, or a shell, in the place of this process.
func shell(o cluster.Options, rest []string) error {
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	args := command(rest)
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, c.Env())
}

func node(o cluster.Options, rest []string) error {
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errors.New("which node? N=1 is the first")
	}
	for _, n := range c.Nodes() {
		if rest[0] == n.Name() || "n"+rest[0] == n.Name() {
			return n.Exec(command(rest[1:])...)
		}
	}
	return fmt.Errorf("cluster %s has no node %q: N=1 is the first", c.Name(), rest[0])
}

// command is a shell, for somebody to type in or with a command.
func command(rest []string) []string {
	if len(rest) == 0 || rest[0] == "" {
		return []string{"bash"}
	}
	return []string{"bash", "-c", rest[0]}
}

// load takes the path of an archive, or the name of one that make images wrote; none
// is all of those.
func load(ctx context.Context, o cluster.Options, rest []string) error {
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	image := ""
	if len(rest) > 0 {
		image = rest[0]
	}
	var archives []string
	if _, err := os.Stat(image); err == nil && image != "" {
		archives = []string{image}
	} else if archives, err = c.WeftImages(image); err != nil {
		return err
	}
	for _, a := range archives {
		if err := c.LoadImage(ctx, a); err != nil {
			return err
		}
		fmt.Printf("== %s: every node has %s\n", c.Name(), filepath.Base(a))
	}
	return nil
}

func gather(ctx context.Context, o cluster.Options) error {
	c, err := cluster.Open(o)
	if err != nil {
		return err
	}
	dir, err := c.Gather(ctx)
	fmt.Printf("== %s: gathered in %s\n", c.Name(), dir)
	return err
}
