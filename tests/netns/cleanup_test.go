// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/daemonset/cni/install"
	"github.com/weftmesh/weft/tests/sandbox"
)

func (n *node) cleanup() (string, error) {
	out, err := exec.CommandContext(n.ctx, filepath.Join(n.bin, "weft-agent"), "cleanup", "--config", n.config).CombinedOutput()
	return string(out), err
}

// TestCleanupLeavesNothing on an installed node, with a pod attached: no link,
// map, program, pin, route, rule, device, record or CNI file.
func TestCleanupLeavesNothing(t *testing.T) {
	n := startNode(t)
	ok(t, install.Install(install.Config{Binary: filepath.Join(n.bin, "weft-cni")}))
	n.runtime.Plugin = filepath.Join(install.DefaultBinDir, install.BinaryName)
	pod := n.pod("attached")
	n.write("policy.yaml", strings.ReplaceAll(crashPolicies, "name: server}", "name: attached}"))

	if out, err := n.cleanup(); err == nil || !strings.Contains(out, "another weft-agent runs on this node") || !strings.Contains(out, "stop it first") {
		t.Errorf("beside a running agent cleanup says %q, %v", out, err)
	}
	serve(t, pod, 8080)
	onBoth(t, func(t *testing.T, family int) { reaches(t, sandbox.Host(), "tcp", addrs(pod)[family], 8080) })
	objects := kernelObjects(t)
	if len(objects) < 20 {
		t.Errorf("only %d objects are in the kernel", len(objects))
	}

	ok(t, n.agent.Stop())
	for range 2 {
		if out, err := n.cleanup(); err != nil || !strings.Contains(out, "Weft is removed from this node") {
			t.Errorf("cleanup: %v: %s", err, out)
		}
	}
	for _, left := range inventory(t) {
		if missing([]string{left}, append(n.before, "file "+pod.NS.Path)) != nil {
			t.Errorf("left on the node: %s", left)
		}
	}
	ok(t, sandbox.Eventually(n.ctx, soon, "the kernel to free everything", func() error {
		for name, there := range objects {
			if there() {
				return errors.New(name + " is still in the kernel")
			}
		}
		return nil
	}))
	ok(t, pod.NS.Do(func() error {
		if _, err := netlink.LinkByName("eth0"); err == nil {
			t.Error("the pod still has eth0")
		}
		return nil
	}))
	// A node that was cleaned is as one that never had Weft: it starts again.
	_, err := n.runtime.Call(n.ctx, "VERSION", nil)
	if err == nil {
		t.Error("the plugin is still installed")
	}
	n.runtime.Plugin = filepath.Join(n.bin, "weft-cni")
	n.startAgent("weft-agent")
	ok(t, n.runtime.DelPod(n.ctx, pod))
	n.forget(pod)
	n.pod("again")
}

// kernelObjects are the maps, links and programs that are pinned, each with a
// question whether it is there still; inner maps too.
func kernelObjects(t *testing.T) map[string]func() bool {
	t.Helper()
	out := map[string]func() bool{}
	addMap := func(name string, id ebpf.MapID) {
		out["map "+name] = func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			return err == nil
		}
	}
	pins, err := os.ReadDir(filepath.Join(pinRoot, "maps"))
	ok(t, err)
	for _, e := range pins {
		m := pinned(t, e.Name())
		info, err := m.Info()
		ok(t, err)
		id, _ := info.ID()
		addMap(e.Name(), id)
		m.Close()
	}
	each(t, "weft_polsets_v1", func(_ uint32, id ebpf.MapID) { addMap("of a policy set", id) })
	each(t, "weft_pend_v1", func(_ uint32, id ebpf.MapID) { addMap("of a ring", id) })
	for name, info := range pinnedLinks(t) {
		out["link "+name] = func() bool {
			l, err := link.NewFromID(info.ID)
			if err == nil {
				l.Close()
			}
			return err == nil
		}
		out["program of "+name] = func() bool {
			p, err := ebpf.NewProgramFromID(info.Program)
			if err == nil {
				p.Close()
			}
			return err == nil
		}
	}
	return out
}

// TestSecondAgentIsRefused and does no harm to the first.
func TestSecondAgentIsRefused(t *testing.T) {
	n, tr := crashNode(t)
	before := kernelState(t)
	out, err := exec.CommandContext(n.ctx, filepath.Join(n.bin, "weft-agent"), "--config", n.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another weft-agent runs on this node") || !strings.Contains(string(out), "stop it first") {
		t.Errorf("a second agent says %q, %v", out, err)
	}
	tr.moves("beside a second agent")
	tr.stop("beside a second agent")
	n.settle()
	sameState(t, "beside a second agent", kernelState(t), before)
}

// TestDamagedState: an endpoint's record that cannot be read costs that endpoint
// alone; identities that cannot be read keep the agent from starting, with the
// file and the remedy, while traffic goes on.
func TestDamagedState(t *testing.T) {
	n := startNode(t)
	stays, lost := n.pod("stays"), n.pod("lost")
	serve(t, stays, 8080)
	serve(t, lost, 8080)
	record := "/var/lib/weft/endpoints/" + lost.ContainerID + "-eth0.json"
	identities := "/var/lib/weft/identities.json"
	good, err := os.ReadFile(identities)
	ok(t, err)

	ok(t, n.agent.Stop())
	ok(t, os.WriteFile(identities, good[:len(good)/2], 0o600))
	out, err := exec.CommandContext(n.ctx, filepath.Join(n.bin, "weft-agent"), "--config", n.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), identities) || !strings.Contains(string(out), "restore it from a backup, or move it away") {
		t.Errorf("with damaged identities the agent says %q, %v", out, err)
	}
	onBoth(t, func(t *testing.T, family int) { reaches(t, sandbox.Host(), "tcp", addrs(stays)[family], 8080) })
	ok(t, os.WriteFile(identities, good, 0o600))

	ok(t, os.Truncate(record, 40))
	n.startAgent("weft-agent")
	if log := n.agent.Log(); strings.Count(log, record) != 1 || !strings.Contains(log, "moved aside") || !strings.Contains(log, hostDevice(t, lost)) {
		t.Errorf("with a damaged record the agent says:\n%s", log)
	}
	if _, err := os.Stat(record + ".bad"); err != nil {
		t.Error(err)
	}
	onBoth(t, func(t *testing.T, family int) {
		reaches(t, sandbox.Host(), "tcp", addrs(stays)[family], 8080)
		blocked(t, sandbox.Host(), "tcp", addrs(lost)[family], 8080)
	})
	// The remedy that the log names: the pod is deleted and made again.
	ok(t, n.runtime.DelPod(n.ctx, lost))
	n.forget(lost)
	lost, err = n.runtime.AddPod(n.ctx, "demo", "lost")
	ok(t, err)
	n.pods = append(n.pods, lost)
	serve(t, lost, 8080)
	onBoth(t, func(t *testing.T, family int) { reaches(t, sandbox.Host(), "tcp", addrs(lost)[family], 8080) })
}

// TestHangupReadsTheConfigurationAgain moves the level of the log, and keeps it
// when the file has a fault.
func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	n := startNode(t, "logLevel: warn")
	quiet, err := os.ReadFile(n.config)
	ok(t, err)
	loud := strings.Replace(string(quiet), "warn", "info", 1)
	hangup := func(config, says string) {
		t.Helper()
		ok(t, os.WriteFile(n.config, []byte(config), 0o644))
		ok(t, n.agent.Hangup())
		ok(t, sandbox.Eventually(n.ctx, soon, "the agent to say "+says, func() error {
			if !strings.Contains(n.agent.Log(), says) {
				return errors.New(n.agent.Log())
			}
			return nil
		}))
	}
	hangup(strings.Replace(loud, "info", "shouting", 1), "the old one stays")
	n.pod("unseen")
	if strings.Contains(n.agent.Log(), "demo/unseen") {
		t.Errorf("at level warn the agent says\n%s", n.agent.Log())
	}
	hangup(loud+"mtu: 1400\n", `"changed":["logLevel"],"changeAtRestart":["mtu"]`)
	n.pod("seen")
	if !strings.Contains(n.agent.Log(), "demo/seen") {
		t.Errorf("at level info the agent says\n%s", n.agent.Log())
	}
	ok(t, os.WriteFile(n.config, quiet, 0o644))
}
