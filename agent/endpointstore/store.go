// SPDX-License-Identifier: Apache-2.0

// Package endpointstore owns the endpoints' records: one JSON file each under
// <state dir>/endpoints, which is also the record of the addresses, slots and
// numbers in use. What a record says is on disk before a caller learns of it.
package endpointstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sort"
	"sync"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

// MaxSlot is the last place in the kernel's array of endpoints (WEFT_MAX_EP - 1).
const MaxSlot = 4095

// Errors that callers branch on.
var (
	ErrExists   = errors.New("the attachment exists already")
	ErrNotFound = errors.New("the attachment is not known")
)

// Store holds the records. It is safe for concurrent use.
type Store struct {
	stateDir string
	log      *slog.Logger

	mu      sync.Mutex
	addrs   *ipam.Allocator
	slots   *ipam.Numbers
	lastID  uint32
	ids     map[uint32]bool
	records map[attachment.Key]Record
}

// New is for the records under stateDir; call Restore before anything else. The
// allocator belongs to the store from here on.
func New(stateDir string, addrs *ipam.Allocator, log *slog.Logger) (*Store, error) {
	slots, err := ipam.NewNumbers(1, MaxSlot)
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	return &Store{
		stateDir: stateDir, log: log, addrs: addrs, slots: slots,
		ids: map[uint32]bool{}, records: map[attachment.Key]Record{},
	}, nil
}

// Reserve makes a record in state "creating" with the fields of r that the caller
// knows (attachment, pod, netns, network, MTU), and adds number, slot, addresses,
// device name and MACs.
func (s *Store) Reserve(r Record) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Key()
	if err := key.Validate(); err != nil {
		return Record{}, err
	}
	if _, ok := s.records[key]; ok {
		return Record{}, ErrExists
	}
	r.HostIfName, r.MAC, r.HostMAC = key.HostDevice(), key.PodMAC(), key.HostMAC()
	r.HostIfIndex, r.State = 0, model.EndpointPrepared
	for _, other := range s.records {
		if other.HostIfName == r.HostIfName {
			return Record{}, fmt.Errorf("the device name %s is taken by %s", r.HostIfName, other.Key())
		}
	}
	if err := s.allocate(&r); err != nil {
		return Record{}, err
	}
	if err := s.write(r); err != nil {
		s.free(r)
		return Record{}, err
	}
	s.records[key] = r
	return r, nil
}

func (s *Store) allocate(r *Record) error {
	slot, err := s.slots.Next()
	if err != nil {
		return fmt.Errorf("this node has %d endpoints, which is all it can have: %w", MaxSlot, err)
	}
	if r.IPv4, r.IPv6, err = s.addrs.Next(); err != nil {
		s.slots.Free(slot)
		return err
	}
	r.Slot, r.ID = uint16(slot), s.nextID()
	return nil
}

// nextID counts up, over the numbers in use when it wraps: a number that stands in
// recorded flows is not soon another endpoint's.
func (s *Store) nextID() uint32 {
	for {
		s.lastID++
		if s.lastID != 0 && !s.ids[s.lastID] {
			s.ids[s.lastID] = true
			return s.lastID
		}
	}
}

func (s *Store) free(r Record) {
	s.slots.Free(uint64(r.Slot))
	s.addrs.Free(r.IPv4, r.IPv6)
	delete(s.ids, r.ID)
}

// SetReady notes that the host-side device exists and has this index.
func (s *Store) SetReady(key attachment.Key, ifindex uint32) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[key]
	if !ok {
		return Record{}, ErrNotFound
	}
	r.HostIfIndex, r.State = ifindex, model.EndpointReady
	if err := s.write(r); err != nil {
		return Record{}, err
	}
	s.records[key] = r
	return r, nil
}

// Release drops a record and gives back what it held; ErrNotFound if there is
// none.
func (s *Store) Release(key attachment.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[key]
	if !ok {
		return ErrNotFound
	}
	if err := attachment.RemoveFile(s.path(key)); err != nil {
		return fmt.Errorf("releasing endpoint %d: %w", r.ID, err)
	}
	delete(s.records, key)
	s.free(r)
	return nil
}

// Get finds a record.
func (s *Store) Get(key attachment.Key) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[key]
	return r, ok
}

// List is all records by number.
func (s *Store) List() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Record, 0, len(s.records))
	for _, r := range s.records {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// StateDir is where records and tombstones lie.
func (s *Store) StateDir() string { return s.stateDir }

func (s *Store) path(key attachment.Key) string {
	return filepath.Join(attachment.EndpointDir(s.stateDir), key.FileName()+".json")
}

func (s *Store) write(r Record) error {
	data, err := encode(r)
	if err != nil {
		return err
	}
	if err := attachment.WriteFile(s.path(r.Key()), data, 0o600); err != nil {
		return fmt.Errorf("persisting endpoint %d: %w", r.ID, err)
	}
	return nil
}

// Avoid has addresses that no record holds come last.
func (s *Store) Avoid(addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs.Avoid(addrs)
}

// Room tells why no endpoint can be added, or nil.
func (s *Store) Room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots.InUse() == s.slots.Size() {
		return fmt.Errorf("this node has %d endpoints, which is all it can have", MaxSlot)
	}
	return s.addrs.Room()
}
