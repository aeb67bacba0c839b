// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weftmesh/weft/tests/cluster/machine"
)

const failurePrefix = "failure-"

// Gather puts what is known of the cluster's state into a new folder, which Down
// leaves: logs of every service and pod, what the API server knows, and of each node
// what Weft says, its maps, links, addresses and routes. What cannot be had is said
// in the place of it.
func (c *Cluster) Gather(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir := filepath.Join(c.at.dir(), failurePrefix+time.Now().Format("20060102-150405.000"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("gathering logs: %w", err)
	}
	machines, err := filepath.Glob(c.at.machine("*"))
	if err != nil {
		return dir, err
	}
	for _, m := range machines {
		name := filepath.Base(m)
		err = errors.Join(err,
			copyTree(filepath.Join(m, "log"), filepath.Join(dir, name)),
			copyTree(filepath.Join(m, "disk/var/log/pods"), filepath.Join(dir, name, "pods")))
		if _, gone := machine.PID1(m); gone == nil {
			err = errors.Join(err, c.ask(ctx, dir, name))
		}
	}
	return dir, errors.Join(err, c.askAPI(ctx, dir))
}

// ask runs what shows a machine's state on it.
func (c *Cluster) ask(ctx context.Context, dir, name string) error {
	questions := map[string]string{
		"network.txt":   c.binary() + " network",
		"processes.txt": c.binary() + " processes",
	}
	if name != controlPlane && name != outside {
		questions["weft-status.txt"] = "weft status"
		questions["weft-l7.txt"] = "weft l7 rulesets; weft l7 config; ls -l /run/weft"
		questions["weft-flows.txt"] = "weft observe --last 1000"
		questions["pins.txt"] = "ls -lR /sys/fs/bpf"
		questions["maps.txt"] = c.binary() + " maps"
		questions["programs.txt"] = c.binary() + " attached"
		questions["cni.txt"] = "ls -l /opt/cni/bin /etc/cni/net.d; cat /etc/cni/net.d/*"
		questions["mounts.txt"] = "cat /proc/self/mountinfo"
		questions["containers.txt"] = "ctr -n k8s.io containers ls; ctr -n k8s.io images ls"
	}
	var err error
	for file, command := range questions {
		out, failed := c.runOn(ctx, name, nil, "sh", "-c", command)
		if failed != nil {
			out += "\n(" + failed.Error() + ")\n"
		}
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name, file), []byte(out), 0o644))
	}
	return err
}

func (c *Cluster) askAPI(ctx context.Context, dir string) error {
	if c.api == nil {
		return nil // it failed before there was one
	}
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := c.api.get(soon, "/readyz", nil)
	if err != nil {
		return os.WriteFile(filepath.Join(dir, "no-api-server.txt"), []byte(err.Error()+"\n"), 0o644)
	}
	for file, args := range map[string][]string{
		"all.txt":       {"get", "all,nodes,networkpolicies,endpointslices", "-A", "-o", "wide"},
		"events.txt":    {"get", "events", "-A", "--sort-by=.lastTimestamp"},
		"nodes.yaml":    {"get", "nodes", "-o", "yaml"},
		"pods.yaml":     {"get", "pods", "-A", "-o", "yaml"},
		"weft-pods.txt": {"describe", "pods", "-n", "weft-system"},
		"crds.txt":      {"get", "crds"},
		"policies.yaml": {"get", "weftnodes,weftnetworkpolicies,weftclusternetworkpolicies", "-A", "-o", "yaml"},
	} {
		out, failed := c.Kubectl(ctx, append(args, "--request-timeout=5s")...)
		if failed != nil {
			out += "\n(" + failed.Error() + ")\n"
		}
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte(out), 0o644))
	}
	return err
}

func copyTree(from, to string) error {
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
