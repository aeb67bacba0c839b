// SPDX-License-Identifier: Apache-2.0

// Package flow turns the events that the kernel programs report into flows with
// names: decode, enrich from a snapshot, keep the newest, filter, and stream them
// to the clients of the agent's API.
package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// RecordSize is the length of an event in the ring buffer, in bytes. The kernel
// may hand over a longer record, padded.
const RecordSize = int(unsafe.Sizeof(weftbpf.BpfWeftFlow{}))

// ErrMalformed is a record that no version of the kernel programs would write.
var ErrMalformed = errors.New("malformed flow record")

// Event is a record of the ring buffer in Go's types, without names. In each pair
// [0] is the initiator, [1] the responder; for a drop the sender and the receiver.
type Event struct {
	Monotonic  time.Duration // CLOCK_MONOTONIC
	Type       model.FlowType
	Reason     model.Reason
	Direction  model.Direction
	Protocol   uint8
	TCPFlags   uint8
	ICMPType   uint8
	ICMPCode   uint8
	Rules      [2]model.RuleID // [0] egress, [1] ingress
	Identities [2]model.IdentityID
	Slots      [2]uint16
	Ports      [2]uint16     // host byte order; for an ICMP query its identifier, twice
	Addrs      [2]netip.Addr // zero: not an IP packet
	Packets    [2]uint64
	Bytes      [2]uint64
	Service    uint32 // number of the service that the initiator asked for; 0: none, or not known
	Count      uint32
	IfIndex    uint32
	Age        time.Duration
	Ruleset    model.RulesetID // that the proxy enforces; 0: the flow is not the proxy's
	Leg        model.Leg
}

// Decode reads one record. It keeps nothing of raw. A reason that is not known is
// kept as it is, since the programs may be newer.
func Decode(raw []byte) (Event, error) {
	if len(raw) < RecordSize {
		return Event{}, fmt.Errorf("%w: %d bytes of %d", ErrMalformed, len(raw), RecordSize)
	}
	var k weftbpf.BpfWeftFlow
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&k)), RecordSize), raw)

	e := Event{
		Monotonic: time.Duration(k.Time), Type: model.FlowType(k.Type), Reason: model.Reason(k.Reason),
		Direction: model.Direction(k.Dir), Protocol: k.Proto, TCPFlags: k.TcpFlags,
		ICMPType: uint8(k.Icmp >> 8), ICMPCode: uint8(k.Icmp),
		Slots: k.Slot, Packets: k.Packets, Bytes: k.Bytes, Service: k.Service, Count: k.Count, IfIndex: k.Ifindex,
		Age: time.Duration(k.Age) * time.Millisecond, Ruleset: model.RulesetID(k.Ruleset), Leg: model.Leg(k.Leg),
	}
	switch {
	case e.Type < model.FlowNew || e.Type > model.FlowAudit:
		return Event{}, fmt.Errorf("%w: type %d", ErrMalformed, k.Type)
	case e.Direction > model.Ingress:
		return Event{}, fmt.Errorf("%w: direction %d", ErrMalformed, k.Dir)
	case e.Leg > model.LegBetween:
		return Event{}, fmt.Errorf("%w: leg %d", ErrMalformed, k.Leg)
	}
	for i := range 2 {
		e.Rules[i] = model.RuleID(k.Rule[i])
		e.Identities[i] = model.IdentityID(k.Identity[i])
		e.Ports[i] = fromWire(k.Port[i])
	}
	var err error
	e.Addrs, err = addresses(&k)
	return e, err
}

func addresses(k *weftbpf.BpfWeftFlow) (out [2]netip.Addr, err error) {
	switch k.Family {
	case 0:
	case 4:
		for i, a := range k.Addr {
			out[i] = netip.AddrFrom4([4]byte(a[:4]))
		}
	case 6:
		for i, a := range k.Addr {
			out[i] = netip.AddrFrom16(a)
		}
	default:
		err = fmt.Errorf("%w: address family %d", ErrMalformed, k.Family)
	}
	return out, err
}

// fromWire reads a port whose bytes lie in memory as on the wire.
func fromWire(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
