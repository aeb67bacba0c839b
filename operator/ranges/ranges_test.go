// SPDX-License-Identifier: Apache-2.0

package ranges

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefixes(text string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range strings.Fields(text) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestEachNodeGetsABlockOfEachFamily(t *testing.T) {
	p := New(prefixes("10.244.0.0/23 10.9.0.0/26 fd00:10:244::/62"))
	for i, want := range []string{
		"10.244.0.0/24 fd00:10:244::/64",
		"10.244.1.0/24 fd00:10:244:1::/64",
		"10.9.0.0/26 fd00:10:244:2::/64", // the second range of IPv4, smaller than a block
	} {
		got, err := p.Assign(fmt.Sprint("n", i), nil)
		if err != nil || !slices.Equal(got, prefixes(want)) {
			t.Fatalf("node %d got %v, %v; want %s", i, got, err, want)
		}
	}
	_, err := p.Assign("n3", nil)
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "IPv4") || !strings.Contains(err.Error(), "clusterCIDRs") {
		t.Errorf("a full pool: %v", err)
	}
	if got := p.Of("n3"); got != nil {
		t.Errorf("a node that got none has %v", got)
	}
	for i, want := range []uint64{2, 1, 3} {
		if u := p.Usage()[i]; u.Used != want {
			t.Errorf("usage %+v, want %d", u, want)
		}
	}
}

func TestWhatWasFreedIsUsedLast(t *testing.T) {
	p := New(prefixes("10.244.0.0/22"))
	assign := func(node, want string) {
		t.Helper()
		if got, err := p.Assign(node, nil); err != nil || !slices.Equal(got, prefixes(want)) {
			t.Fatalf("%s got %v, %v; want %s", node, got, err, want)
		}
	}
	assign("a", "10.244.0.0/24")
	assign("b", "10.244.1.0/24")
	p.Release("a")
	assign("c", "10.244.2.0/24")
	assign("a", "10.244.0.0/24") // back: what it had
	p.Release("a")
	assign("d", "10.244.3.0/24")
	assign("e", "10.244.0.0/24")
	p.Release("b")
	assign("a", "10.244.1.0/24") // its own is taken
	if _, err := p.Assign("b", nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v", err)
	}
}

func TestNamedBlocksAreLeftOut(t *testing.T) {
	p := New(prefixes("10.244.0.0/22"))
	got, err := p.Assign("a", func(b netip.Prefix) bool { return b.Contains(netip.MustParseAddr("10.244.0.9")) })
	if err != nil || !slices.Equal(got, prefixes("10.244.1.0/24")) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAdoptRefusesOverlaps(t *testing.T) {
	p := New(prefixes("10.244.0.0/16"))
	if err := p.Adopt("a", prefixes("10.244.0.0/23 192.168.0.0/24")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"10.244.1.0/24", "10.244.0.0/16", "192.168.0.128/25"} {
		err := p.Adopt("b", prefixes(bad))
		if !errors.Is(err, ErrOverlap) || !strings.Contains(err.Error(), "of node a") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if got, err := p.Assign("b", nil); err != nil || !slices.Equal(got, prefixes("10.244.2.0/24")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// Whatever is adopted, assigned and released, in which order, no two nodes share
// an address, a node that has a range keeps it, and a leader that begins with
// what nodes have goes on like that.
func TestNoTwoNodesShareAnAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cluster := prefixes(rapid.SampledFrom([]string{
			"10.0.0.0/21 fd00::/61", "10.0.0.0/23 10.7.0.0/25 fd00::/64", "10.0.0.0/24", "fd00::/48",
		}).Draw(t, "cluster"))
		p := New(cluster)
		has := map[string][]netip.Prefix{}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			node := rapid.StringMatching(`[a-l]`).Draw(t, "node")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				p.Release(node)
				delete(has, node)
			case 2:
				given := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, rapid.Byte().Draw(t, "third") % 8, 0}),
					rapid.IntRange(21, 26).Draw(t, "bits")).Masked()
				if len(has[node]) == 0 && p.Adopt(node, []netip.Prefix{given}) == nil {
					has[node] = []netip.Prefix{given}
				}
			case 3:
				p = New(cluster)
				for n, ranges := range has {
					if err := p.Adopt(n, ranges); err != nil {
						t.Fatalf("after a change of leader: %v", err)
					}
				}
			default:
				got, err := p.Assign(node, nil)
				if err != nil && !errors.Is(err, ErrExhausted) {
					t.Fatal(err)
				}
				if err == nil {
					for _, r := range has[node] {
						if !slices.Contains(got, r) {
							t.Fatalf("%s lost %s", node, r)
						}
					}
					has[node] = got
				}
			}
			for a, as := range has {
				if !slices.Equal(p.Of(a), as) {
					t.Fatalf("%s has %v, the pool says %v", a, as, p.Of(a))
				}
				for b, bs := range has {
					for _, x := range as {
						if a != b && slices.ContainsFunc(bs, x.Overlaps) {
							t.Fatalf("%s has %v, %s has %v", a, as, b, bs)
						}
					}
				}
			}
			for _, u := range p.Usage() {
				if u.Used > u.Blocks {
					t.Fatalf("usage %+v", u)
				}
			}
		}
	})
}
