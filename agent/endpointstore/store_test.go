// SPDX-License-Identifier: Apache-2.0

package endpointstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

// devices are the host's devices, by name.
type devices map[string]uint32

func (d devices) Find(name string) (uint32, error) { return d[name], nil }
func (d devices) Remove(name string) error         { delete(d, name); return nil }

func newStore(t *testing.T, dir, v4 string) *Store {
	t.Helper()
	addrs, err := ipam.NewAllocator(netip.MustParsePrefix(v4), netip.MustParsePrefix("fd00::/64"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(dir, addrs, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reserve adds container cN; with a device it is made ready.
func reserve(t *testing.T, s *Store, n int, devs devices) Record {
	t.Helper()
	r, err := s.Reserve(Record{Network: "weft", Endpoint: model.Endpoint{
		Pod: model.PodKey{Namespace: "ns", Name: fmt.Sprint("pod", n)}, PodUID: "u",
		ContainerID: fmt.Sprint("c", n), IfName: "eth0", NetNS: "/run/netns/x", MTU: 1500,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if devs == nil {
		return r
	}
	devs[r.HostIfName] = uint32(100 + n)
	if r, err = s.SetReady(r.Key(), uint32(100+n)); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordsSurviveARestart(t *testing.T) {
	dir, devs := t.TempDir(), devices{}
	s := newStore(t, dir, "10.0.0.0/24")
	var want []Record
	for n := range 5 {
		want = append(want, reserve(t, s, n, devs))
	}
	if err := s.Release(want[1].Key()); err != nil {
		t.Fatal(err)
	}
	want = append(want[:1], want[2:]...)

	s = newStore(t, dir, "10.0.0.0/24")
	got, err := s.Restore(devs)
	if err != nil || got.Kept != 4 || got.Released != nil || got.Bad != nil {
		t.Fatalf("restored %+v, %v", got, err)
	}
	if list := s.List(); !reflect.DeepEqual(list, want) {
		t.Errorf("restored\n%+v\nnot\n%+v", list, want)
	}
	// What was in use last before the restart is not given out next.
	r := reserve(t, s, 9, devs)
	if r.IPv4.String() != "10.0.0.7" || r.Slot != 6 || r.ID != 6 {
		t.Errorf("after the restart came %s, slot %d, number %d", r.IPv4, r.Slot, r.ID)
	}
}

func TestRestoreReleasesWhatIsGone(t *testing.T) {
	dir, devs := t.TempDir(), devices{}
	s := newStore(t, dir, "10.0.0.0/24")
	deleted, lost, kept := reserve(t, s, 1, devs), reserve(t, s, 2, devs), reserve(t, s, 3, devs)
	reserve(t, s, 4, nil) // its ADD ended between Prepare and the device
	if err := attachment.WriteTombstone(dir, deleted.Key()); err != nil {
		t.Fatal(err)
	}
	delete(devs, lost.HostIfName)
	devs[kept.HostIfName] = 777 // the index may be another one

	s = newStore(t, dir, "10.0.0.0/24")
	got, err := s.Restore(devs)
	if err != nil || got.Kept != 1 || len(got.Released) != 3 {
		t.Fatalf("restored %+v, %v", got, err)
	}
	list := s.List()
	if len(list) != 1 || list[0].ID != kept.ID || list[0].HostIfIndex != 777 {
		t.Errorf("left are %+v", list)
	}
	if len(devs) != 1 || attachment.HasTombstone(dir, deleted.Key()) {
		t.Errorf("device or tombstone of the deleted one is left: %v", devs)
	}
	files, _ := os.ReadDir(attachment.EndpointDir(dir))
	if len(files) != 1 {
		t.Errorf("files: %v", files)
	}
}

func TestUnusableFilesAreMovedAside(t *testing.T) {
	dir, devs := t.TempDir(), devices{}
	s := newStore(t, dir, "10.0.0.0/24")
	good, twin := reserve(t, s, 1, devs), reserve(t, s, 2, devs)
	twin.IPv4 = good.IPv4 // two records of one address: the older keeps it
	data, err := encode(twin)
	if err != nil {
		t.Fatal(err)
	}
	moved := encodeAs(t, good, "c8")
	files := map[string][]byte{
		"c2-eth0.json": data, "c3-eth0.json": []byte("{"), "c4-eth0.json": nil, "c5-eth0.json": []byte(`{"version":9}`),
		"c7-eth0.json": moved, ".c9-eth0.json.1": nil, "README": nil,
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(attachment.EndpointDir(dir), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = newStore(t, dir, "10.0.0.0/24")
	got, err := s.Restore(devs)
	if err != nil || got.Kept != 1 || len(got.Bad) != 5 {
		t.Fatalf("restored %+v, %v", got, err)
	}
	if list := s.List(); len(list) != 1 || list[0].ID != good.ID {
		t.Errorf("left are %+v", list)
	}
	again := newStore(t, dir, "10.0.0.0/24")
	if got, err := again.Restore(devs); err != nil || got.Kept != 1 || got.Bad != nil {
		t.Errorf("the next start: %+v, %v", got, err)
	}
}

func encodeAs(t *testing.T, r Record, containerID string) []byte {
	t.Helper()
	r.ContainerID = containerID
	data, err := encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEndpointKeepsAnAddressOfAnOldRange(t *testing.T) {
	dir, devs := t.TempDir(), devices{}
	s := newStore(t, dir, "10.0.0.0/24")
	r := reserve(t, s, 1, devs)
	s = newStore(t, dir, "10.99.0.0/24")
	if got, err := s.Restore(devs); err != nil || got.Kept != 1 {
		t.Fatalf("restored %+v, %v", got, err)
	}
	if err := s.Release(r.Key()); err != nil {
		t.Error(err)
	}
}

func TestSlotsRunOut(t *testing.T) {
	s := newStore(t, t.TempDir(), "10.0.0.0/16")
	for v := uint64(2); v <= MaxSlot; v++ {
		if err := s.slots.Take(v); err != nil {
			t.Fatal(err)
		}
	}
	r := reserve(t, s, 1, nil)
	if r.Slot != 1 || s.Room() == nil {
		t.Errorf("slot %d, room: %v", r.Slot, s.Room())
	}
	_, err := s.Reserve(Record{Endpoint: model.Endpoint{ContainerID: "x", IfName: "eth0"}})
	if !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Reserve(r); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
}

// When the disk refuses, nothing is held by a record that nobody has.
func TestFailedWriteHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(attachment.EndpointDir(dir), nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	s := newStore(t, dir, "10.0.0.0/24")
	if _, err := s.Reserve(Record{Endpoint: model.Endpoint{ContainerID: "x", IfName: "eth0"}}); err == nil {
		t.Fatal("a record was reserved that is not on disk")
	}
	if s.slots.InUse() != 0 || len(s.ids) != 0 || len(s.List()) != 0 {
		t.Error("something is held")
	}
}

func FuzzDecode(f *testing.F) {
	key := attachment.Key{ContainerID: "c", IfName: "eth0"}
	data, err := encode(Record{Network: "weft", Endpoint: model.Endpoint{
		ID: 1, Slot: 1, ContainerID: "c", IfName: "eth0", HostIfName: key.HostDevice(), MAC: key.PodMAC(), HostMAC: key.HostMAC(),
		IPv4: netip.MustParseAddr("10.0.0.2"), State: model.EndpointReady, MTU: 1500,
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"mac":"00:00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(again); err != nil || back != r {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	})
}
