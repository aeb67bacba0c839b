// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// TestUpgradeAndRollback replaces the agent, killed or stopped, by one of
// another release and goes back, under traffic: one whose programs differ, and
// one whose conntrack has another layout.
func TestUpgradeAndRollback(t *testing.T) {
	for name, other := range map[string]struct{ binary, conntrack string }{
		"programs":  {binary: "weft-agent-progalt", conntrack: "weft_ct4_v1"},
		"conntrack": {binary: "weft-agent-ctalt", conntrack: "weft_ct4_v900"},
	} {
		t.Run(name, func(t *testing.T) {
			n, tr := crashNode(t)
			needVariant(t, n.bin, other.binary)
			before, tags := kernelState(t), programTags(t)

			n.kill()
			n.startAgent(other.binary)
			tr.moves("after the upgrade")
			tr.whole("after the upgrade")
			pinned(t, other.conntrack).Close()
			if now := programTags(t); slices.Equal(now, tags) {
				t.Errorf("the programs are still %v", now)
			}
			sameState(t, "after the upgrade", kernelState(t), before)
			crossedAtOnce(t, n)

			ok(t, n.agent.Stop())
			n.startAgent("weft-agent")
			tr.moves("after the rollback")
			tr.stop("after the rollback")
			pinned(t, "weft_ct4_v1").Close()
			if now := programTags(t); !slices.Equal(now, tags) {
				t.Errorf("the programs are %v, not those of before %v", now, tags)
			}
			sameState(t, "after the rollback", kernelState(t), before)
			crossedAtOnce(t, n)
			sameState(t, "with what a fresh agent writes", before, n.fresh())
		})
	}
}

// crossedAtOnce asserts that the agent did not have to replace the programs of a
// moving conntrack device by device, in which case flows can fall into a gap.
func crossedAtOnce(t *testing.T, n *node) {
	t.Helper()
	if strings.Contains(n.agent.Log(), "device by device") {
		t.Errorf("devices changed one after the other:\n%s", n.agent.Log())
	}
}

// TestFlowsFallWithTheirConntrack shows that the flows of these tests do hang on
// conntrack: with the tables emptied, what may not open a flow is silent.
func TestFlowsFallWithTheirConntrack(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server")
	n.write("policy.yaml", crashPolicies)
	for _, network := range []string{"tcp", "udp"} {
		onBoth(t, func(t *testing.T, family int) {
			q := startQuiet(t, network, client.NS, server.NS, addrs(server)[family])
			for _, name := range []string{"weft_ct4_v1", "weft_ct6_v1", "weft_ctn4_v1", "weft_ctn6_v1"} {
				empty(t, name)
			}
			q.patience = silence
			if q.speak() == nil {
				t.Errorf("over %s the server is heard on a flow that nobody knows", network)
			}
		})
	}
}

func empty(t *testing.T, pin string) {
	t.Helper()
	m := pinned(t, pin)
	defer m.Close()
	var keys [][]byte
	var key, value []byte
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		keys = append(keys, slices.Clone(key))
	}
	ok(t, entries.Err())
	for _, k := range keys {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatal(err)
		}
	}
}

func needVariant(t *testing.T, bin, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
		t.Fatalf("%v: run 'make test' first", err)
	}
}
