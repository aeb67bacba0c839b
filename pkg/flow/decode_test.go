// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// encode is a record's bytes as the kernel leaves them in the ring buffer.
func encode(k weftbpf.BpfWeftFlow) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&k)), RecordSize)...)
}

// onWire is a port as the kernel stores it.
func onWire(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

func addr16(s string) [16]byte {
	a := netip.MustParseAddr(s)
	if a.Is4() {
		var out [16]byte
		copy(out[:], a.AsSlice())
		return out
	}
	return a.As16()
}

// dropped is a SYN from the intruder that the backend's isolation refused.
func dropped() weftbpf.BpfWeftFlow {
	return weftbpf.BpfWeftFlow{
		Time: uint64(90 * time.Second), Type: 2, Reason: 14, Dir: 1, Family: 4, Proto: 6, TcpFlags: 2,
		Identity: [2]uint32{300, 257}, Slot: [2]uint16{3, 4},
		Port:    [2]uint16{onWire(41234), onWire(8080)},
		Addr:    [2][16]byte{addr16("10.0.0.3"), addr16("10.0.0.4")},
		Packets: [2]uint64{1, 0}, Bytes: [2]uint64{60, 0}, Count: 1, Ifindex: 7,
		Service: 21, Backend: 22, Ruleset: 3, Leg: 2,
	}
}

func TestDecode(t *testing.T) {
	e, err := Decode(encode(dropped()))
	if err != nil {
		t.Fatal(err)
	}
	want := Event{
		Monotonic: 90 * time.Second, Type: model.FlowDrop, Reason: model.ReasonPolicyDefault,
		Direction: model.Ingress, Protocol: model.ProtoTCP, TCPFlags: 2,
		Identities: [2]model.IdentityID{300, 257}, Slots: [2]uint16{3, 4}, Ports: [2]uint16{41234, 8080},
		Addrs:   [2]netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")},
		Packets: [2]uint64{1, 0}, Bytes: [2]uint64{60, 0}, Count: 1, IfIndex: 7, Service: 21,
		Ruleset: 3, Leg: model.LegUpstream,
	}
	if e != want {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
}

func TestDecodeIPv6AndICMP(t *testing.T) {
	e, err := Decode(encode(weftbpf.BpfWeftFlow{
		Type: 3, Family: 6, Proto: 58, Icmp: 128<<8 | 1, Age: 1500,
		Addr: [2][16]byte{addr16("fd00::1"), addr16("fd00::2")},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if e.Addrs[1] != netip.MustParseAddr("fd00::2") || e.ICMPType != 128 || e.ICMPCode != 1 || e.Age != 1500*time.Millisecond {
		t.Errorf("got %+v", e)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, change := range map[string]func(*weftbpf.BpfWeftFlow){
		"type 0":      func(k *weftbpf.BpfWeftFlow) { k.Type = 0 },
		"type 6":      func(k *weftbpf.BpfWeftFlow) { k.Type = 6 },
		"direction 2": func(k *weftbpf.BpfWeftFlow) { k.Dir = 2 },
		"leg 4":       func(k *weftbpf.BpfWeftFlow) { k.Leg = 4 },
		"family 5":    func(k *weftbpf.BpfWeftFlow) { k.Family = 5 },
	} {
		k := dropped()
		change(&k)
		if _, err := Decode(encode(k)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(dropped()))
	f.Add([]byte{})
	f.Add(make([]byte, RecordSize+8))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Decode(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		flow := Enrich(&e, time.Unix(0, 0).Add(e.Monotonic), &Maps{})
		back := FromProto(ToProto(flow))
		if back.Peers[0].Addr != flow.Peers[0].Addr || back.Reason != flow.Reason ||
			back.Type != flow.Type || back.Ruleset != flow.Ruleset || back.Leg != flow.Leg || back.Protocol != flow.Protocol || back.TCPFlags != flow.TCPFlags {
			t.Fatalf("the API changes a flow: %+v became %+v", flow, back)
		}
	})
}
