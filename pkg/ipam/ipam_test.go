// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is done, a number is never with two owners, never outside of its range,
// and there is a free one until all are taken; and no number comes back while
// another has been free longer.
func TestNumbersKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(0, 1000).Draw(t, "first")
		size := rapid.Uint64Range(1, 12).Draw(t, "size")
		n, err := NewNumbers(first, first+size-1)
		if err != nil {
			t.Fatal(err)
		}
		held := map[uint64]bool{}
		var freed []uint64 // oldest first: what Free gave back and Next may take
		never := size      // not given out yet
		t.Repeat(map[string]func(*rapid.T){
			"next": func(t *rapid.T) {
				v, err := n.Next()
				if uint64(len(held)) == size {
					if !errors.Is(err, ErrExhausted) {
						t.Fatalf("all %d are taken, and Next answered %d, %v", size, v, err)
					}
					return
				}
				if err != nil || v < first || v >= first+size || held[v] {
					t.Fatalf("Next answered %d, %v; held: %v", v, err, held)
				}
				if never > 0 {
					never--
				} else if v != freed[0] {
					t.Fatalf("Next answered %d, but %d has been free longer", v, freed[0])
				} else {
					freed = freed[1:]
				}
				held[v] = true
			},
			"free": func(t *rapid.T) {
				v := rapid.Uint64Range(first, first+size-1).Draw(t, "v")
				n.Free(v)
				if held[v] {
					delete(held, v)
					freed = append(freed, v)
				}
			},
			"take": func(t *rapid.T) {
				v := rapid.Uint64Range(first, first+size-1).Draw(t, "v")
				err := n.Take(v)
				if held[v] != errors.Is(err, ErrInUse) {
					t.Fatalf("Take(%d) answered %v; held: %v", v, err, held[v])
				}
				if held[v] {
					return
				}
				held[v] = true
				for i, f := range freed {
					if f == v {
						freed = append(freed[:i], freed[i+1:]...)
						return
					}
				}
				never--
			},
			"": func(t *rapid.T) {
				if n.InUse() != uint64(len(held)) || n.Size() != size {
					t.Fatalf("InUse is %d, Size %d; %d of %d are held", n.InUse(), n.Size(), len(held), size)
				}
			},
		})
	})
}

func TestPoolGivesEveryUsableAddressOnce(t *testing.T) {
	for _, c := range []struct {
		prefix, first, last string
		size                int
	}{
		{"10.0.0.0/30", "10.0.0.2", "10.0.0.2", 1},
		{"10.0.0.8/29", "10.0.0.10", "10.0.0.14", 5},
		{"10.1.0.0/22", "10.1.0.2", "10.1.3.254", 1021},
		{"fd00::/126", "fd00::2", "fd00::3", 2},
		{"fd00::ff00/120", "fd00::ff02", "fd00::ffff", 254},
	} {
		p, err := NewPool(netip.MustParsePrefix(c.prefix))
		if err != nil {
			t.Fatal(err)
		}
		var got []netip.Addr
		for {
			a, err := p.Next()
			if err != nil {
				if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), c.prefix) {
					t.Errorf("%s: %v", c.prefix, err)
				}
				break
			}
			got = append(got, a)
		}
		if len(got) != c.size || got[0].String() != c.first || got[len(got)-1].String() != c.last {
			t.Errorf("%s gave %d addresses, %s to %s", c.prefix, len(got), got[0], got[len(got)-1])
		}
		p.Free(got[0])
		if a, err := p.Next(); err != nil || a != got[0] {
			t.Errorf("%s: after Free, Next answered %s, %v", c.prefix, a, err)
		}
	}
}

func TestLargePoolsStayInside(t *testing.T) {
	for _, s := range []string{"fd00::/8", "fd00:1::/48", "2001:db8::/64", "2001:db8::/65", "10.0.0.0/8", "0.0.0.0/0"} {
		prefix := netip.MustParsePrefix(s)
		p, err := NewPool(prefix)
		if err != nil {
			t.Fatal(err)
		}
		last := p.at(p.numbers.last)
		if !prefix.Contains(last) {
			t.Errorf("%s: the last address %s is outside", s, last)
		}
		if off, ok := p.offset(last); !ok || off != p.numbers.last {
			t.Errorf("%s: offset of %s is %d, %v", s, last, off, ok)
		}
		p.numbers.StartAfter(p.numbers.last - 1)
		if a, err := p.Next(); err != nil || a != last {
			t.Errorf("%s: Next answered %s, %v", s, a, err)
		}
		if a, err := p.Next(); err != nil || a != p.at(2) {
			t.Errorf("%s: behind the last comes %s, %v", s, a, err)
		}
	}
}

func TestBadRangesAreRefused(t *testing.T) {
	for s, text := range map[string]string{
		"10.0.0.1/24": "did you mean 10.0.0.0/24?", "10.0.0.0/31": "too small", "fd00::/127": "too small",
		"::ffff:10.0.0.0/120": "not a prefix",
	} {
		if _, err := NewPool(netip.MustParsePrefix(s)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", s, err)
		}
	}
	v4, v6 := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")
	for _, c := range [][2]netip.Prefix{{}, {v6, v6}, {v4, v4}} {
		if _, err := NewAllocator(c[0], c[1]); err == nil {
			t.Errorf("%v was taken", c)
		}
	}
}

func TestAllocatorIsAllOrNothing(t *testing.T) {
	a, err := NewAllocator(netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/126"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := a.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Room(); !errors.Is(err, ErrExhausted) {
		t.Errorf("Room: %v", err)
	}
	if _, _, err := a.Next(); !errors.Is(err, ErrExhausted) {
		t.Errorf("Next: %v", err)
	}
	if n := a.v4.InUse(); n != 2 {
		t.Errorf("%d IPv4 addresses are in use after the failure", n)
	}
	four, six := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::2")
	if err := a.Take(four, six); !errors.Is(err, ErrInUse) || a.v4.InUse() != 2 {
		t.Errorf("Take of one that is in use: %v, %d", err, a.v4.InUse())
	}
	other := netip.MustParseAddr("fd99::2")
	if err := a.Take(four, other); !errors.Is(err, ErrOutside) || a.v4.InUse() != 3 {
		t.Errorf("Take of one that is outside: %v, %d", err, a.v4.InUse())
	}
}

// What is avoided is given out when nothing else is left, and what is in use stays so.
func TestAvoidedAddressesComeLast(t *testing.T) {
	a, err := NewAllocator(netip.MustParsePrefix("10.0.0.0/29"), netip.MustParsePrefix("fd00::/125"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Take(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")); err != nil {
		t.Fatal(err)
	}
	var avoid []netip.Addr
	for _, s := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::3", "10.9.0.3", "fd99::3"} {
		avoid = append(avoid, netip.MustParseAddr(s))
	}
	a.Avoid(avoid)
	want := []string{"10.0.0.5 fd00::4", "10.0.0.6 fd00::5", "10.0.0.3 fd00::6", "10.0.0.4 fd00::7"}
	for _, w := range want {
		v4, v6, err := a.Next()
		if got := v4.String() + " " + v6.String(); err != nil || got != w {
			t.Errorf("Next answered %s, %v; want %s", got, err, w)
		}
	}
}
