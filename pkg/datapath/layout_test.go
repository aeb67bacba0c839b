// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
)

func number(size uint32) btf.Type { return &btf.Int{Name: "n", Size: size} }

func array(of btf.Type, n uint32) btf.Type {
	return &btf.Array{Index: number(4), Type: of, Nelems: n}
}

// structure lays members out one after the other.
func structure(name string, members ...btf.Member) *btf.Struct {
	s := &btf.Struct{Name: name}
	for _, m := range members {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			panic(err)
		}
		m.Offset = btf.Bits(s.Size * 8)
		s.Members = append(s.Members, m)
		s.Size += uint32(size)
	}
	return s
}

func member(name string, typ btf.Type) btf.Member { return btf.Member{Name: name, Type: typ} }

func TestMembersAreMatchedByName(t *testing.T) {
	old := structure("flow",
		member("gone", number(2)), member("port", array(number(2), 2)),
		member("inner", structure("in", member("x", number(1)), member("y", number(1)))),
		member("grows", number(2)), member("shrinks", number(4)), member("list", array(number(1), 2)), member("alone", number(2)))
	now := structure("flow",
		member("list", array(number(1), 4)), member("shrinks", number(2)), member("grows", number(4)),
		member("added", number(2)),
		member("inner", structure("in", member("y", number(1)), member("z", number(1)), member("x", number(1)))),
		member("port", array(&btf.Typedef{Name: "be16", Type: number(2)}, 2)), member("alone", array(number(2), 2)))
	c, err := appendSpans(nil, old, now, 0, 0)
	must(t, err)
	src := []byte{
		1, 2, // gone
		3, 4, 5, 6, // port
		7, 8, // inner
		9, 10, // grows
		11, 12, 0, 0, // shrinks
		13, 14, // list
		15, 16, // alone
	}
	want := []byte{
		13, 14, 0, 0, // list
		11, 12, // shrinks
		9, 10, 0, 0, // grows
		0, 0, // added
		8, 0, 7, // inner
		3, 4, 5, 6, // port
		15, 16, 0, 0, // alone
	}
	dst := bytes.Repeat([]byte{0xff}, len(want))
	c.convert(dst, src)
	if !bytes.Equal(dst, want) {
		t.Errorf("converted to\n%v\nwant\n%v", dst, want)
	}
}

func TestAMemberOfAnotherKindIsRefused(t *testing.T) {
	old := structure("s", member("a", number(4)))
	now := structure("s", member("a", structure("in", member("x", number(4)))))
	if c, err := appendSpans(nil, old, now, 0, 0); err == nil {
		t.Errorf("a number became a struct: %v", c)
	}
}
