// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// converter turns bytes of one layout of a type into another layout.
type converter []span

// span is a run of bytes that both layouts have. Numbers that grew or shrank
// have only their low bytes in common.
type span struct{ from, to, n uint32 }

// convert fills dst from src; what src has no member for is zero.
func (c converter) convert(dst, src []byte) {
	clear(dst)
	for _, s := range c {
		copy(dst[s.to:s.to+s.n], src[s.from:s.from+s.n])
	}
}

// entryConverters compares the layout a map was made with, as its BTF tells,
// with the one of the spec.
func entryConverters(from *ebpf.Map, spec *ebpf.MapSpec) (keys, values converter, err error) {
	old, err := mapBTF(from)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the old layout: %w", err)
	}
	if keys, err = typeConverter(old, spec.Key, from.KeySize(), spec.KeySize); err != nil {
		return nil, nil, fmt.Errorf("comparing keys: %w", err)
	}
	if values, err = typeConverter(old, spec.Value, from.ValueSize(), spec.ValueSize); err != nil {
		return nil, nil, fmt.Errorf("comparing values: %w", err)
	}
	return keys, values, nil
}

// mapBTF is the BTF that a map was made with.
func mapBTF(m *ebpf.Map) (*btf.Spec, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	id, ok := info.BTFID()
	if !ok {
		return nil, fmt.Errorf("map %s has no BTF", info.Name)
	}
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	return handle.Spec(nil)
}

// typeConverter finds the old type by the name of the new one. Plain numbers of
// one size need no type.
func typeConverter(old *btf.Spec, want btf.Type, oldSize, newSize uint32) (converter, error) {
	if _, isStruct := btf.UnderlyingType(want).(*btf.Struct); !isStruct {
		if oldSize != newSize {
			return nil, fmt.Errorf("%d bytes became %d", oldSize, newSize)
		}
		return converter{{n: newSize}}, nil
	}
	have, err := old.AnyTypeByName(want.TypeName())
	if err != nil {
		return nil, err
	}
	return appendSpans(nil, have, want, 0, 0)
}

// appendSpans walks two types side by side, members matched by name.
func appendSpans(c converter, have, want btf.Type, from, to uint32) (converter, error) {
	have, want = btf.UnderlyingType(have), btf.UnderlyingType(want)
	switch want := want.(type) {
	case *btf.Struct:
		if have, ok := have.(*btf.Struct); ok {
			return appendMembers(c, have, want, from, to)
		}
	case *btf.Array:
		if have, ok := have.(*btf.Array); ok {
			return appendElements(c, have, want, from, to)
		}
		return appendSpans(c, have, want.Type, from, to) // what was alone is the first
	case *btf.Int, *btf.Enum:
		return appendNumber(c, have, want, from, to)
	}
	return nil, fmt.Errorf("%v cannot become %v", have, want)
}

func appendMembers(c converter, have, want *btf.Struct, from, to uint32) (converter, error) {
	members := make(map[string]btf.Member, len(have.Members))
	for _, m := range have.Members {
		members[m.Name] = m
	}
	for _, w := range want.Members {
		h, ok := members[w.Name]
		if !ok {
			continue
		}
		if h.BitfieldSize != 0 || w.BitfieldSize != 0 {
			return nil, fmt.Errorf("%s.%s is a bit field", want.Name, w.Name)
		}
		var err error
		if c, err = appendSpans(c, h.Type, w.Type, from+h.Offset.Bytes(), to+w.Offset.Bytes()); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", want.Name, w.Name, err)
		}
	}
	return c, nil
}

func appendElements(c converter, have, want *btf.Array, from, to uint32) (converter, error) {
	haveSize, err := btf.Sizeof(have.Type)
	if err != nil {
		return nil, err
	}
	wantSize, err := btf.Sizeof(want.Type)
	if err != nil {
		return nil, err
	}
	for i := range min(have.Nelems, want.Nelems) {
		c, err = appendSpans(c, have.Type, want.Type, from+i*uint32(haveSize), to+i*uint32(wantSize))
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func appendNumber(c converter, have, want btf.Type, from, to uint32) (converter, error) {
	haveSize, err := btf.Sizeof(have)
	if err != nil {
		return nil, err
	}
	wantSize, err := btf.Sizeof(want)
	if err != nil {
		return nil, err
	}
	n := min(haveSize, wantSize)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big: the low bytes are last
		from, to = from+uint32(haveSize-n), to+uint32(wantSize-n)
	}
	return append(c, span{from: from, to: to, n: uint32(n)}), nil
}
