// SPDX-License-Identifier: Apache-2.0

package endpointstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

// Devices are the host's network devices.
type Devices interface {
	// Find answers a device's index, or 0 if there is none of that name.
	Find(name string) (uint32, error)
	// Remove removes a host-side device; none is no error.
	Remove(name string) error
}

// Restored tells what Restore found.
type Restored struct {
	Kept     int
	Released []Record // deleted while the agent was away, or their device is gone
	Bad      []string // files that could not be used, moved aside
}

// Restore reads the records at start. It completes the tombstones, and releases
// the endpoints whose host-side device is gone. A file that cannot be used is
// moved aside and reported, and stops nothing.
func (s *Store) Restore(devices Devices) (Restored, error) {
	var out Restored
	records, bad, err := s.load()
	if err != nil {
		return out, err
	}
	out.Bad = bad
	// Youngest last: where two records claim one address, the older one keeps it,
	// and allocation goes on behind the youngest.
	sort.Slice(records, func(i, j int) bool { return records[i].ID < records[j].ID })
	for _, r := range records {
		if err := s.adopt(r); err != nil {
			out.Bad = append(out.Bad, s.moveAside(s.path(r.Key()), err))
		}
	}
	tombs, err := attachment.Tombstones(s.stateDir)
	if err != nil {
		s.log.Error("a tombstone cannot be used", "error", err)
	}
	dead := map[attachment.Key]bool{}
	for _, k := range tombs {
		dead[k] = true
	}
	for _, r := range s.List() {
		released, err := s.revive(r, dead[r.Key()], devices)
		if err != nil {
			return out, fmt.Errorf("restoring endpoint %d of %s: %w", r.ID, r.Pod, err)
		}
		if released {
			out.Released = append(out.Released, r)
		} else {
			out.Kept++
		}
	}
	for _, k := range tombs {
		if err := attachment.RemoveTombstone(s.stateDir, k); err != nil {
			return out, fmt.Errorf("completing a tombstone: %w", err)
		}
	}
	return out, nil
}

// revive releases an endpoint that is dead or has no device, and otherwise takes
// over the index that its device has now.
func (s *Store) revive(r Record, dead bool, devices Devices) (released bool, err error) {
	if dead {
		if err := devices.Remove(r.HostIfName); err != nil {
			return false, err
		}
		return true, s.Release(r.Key())
	}
	index, err := devices.Find(r.HostIfName)
	switch {
	case err != nil:
		return false, err
	case index == 0:
		return true, s.Release(r.Key())
	case r.State == model.EndpointReady && r.HostIfIndex != index:
		_, err = s.SetReady(r.Key(), index)
	}
	return false, err
}

// load reads every record file.
func (s *Store) load() (records []Record, bad []string, err error) {
	dir := attachment.EndpointDir(s.stateDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listing endpoint records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			// A write that a crash cut short; its record was never promised.
			if err := attachment.RemoveFile(path); err != nil {
				return nil, nil, err
			}
			continue
		}
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		r, err := s.read(path)
		if err != nil {
			bad = append(bad, s.moveAside(path, err))
			continue
		}
		records = append(records, r)
	}
	return records, bad, nil
}

func (s *Store) read(path string) (Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	r, err := decode(data)
	if err != nil {
		return Record{}, err
	}
	if s.path(r.Key()) != path {
		return Record{}, fmt.Errorf("it speaks of %s", r.Key())
	}
	return r, nil
}

// adopt marks what a record holds as in use.
func (s *Store) adopt(r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[r.ID] {
		return fmt.Errorf("number %d: %w", r.ID, ipam.ErrInUse)
	}
	if err := s.slots.Take(uint64(r.Slot)); err != nil {
		return fmt.Errorf("slot %d: %w", r.Slot, err)
	}
	if err := s.addrs.Take(r.IPv4, r.IPv6); errors.Is(err, ipam.ErrInUse) {
		s.slots.Free(uint64(r.Slot))
		return err
	} else if err != nil {
		s.log.Warn("an endpoint keeps an address that no pod range holds", "endpoint", r.ID, "pod", r.Pod.String(), "error", err)
	}
	s.ids[r.ID], s.lastID = true, max(s.lastID, r.ID)
	s.slots.StartAfter(uint64(r.Slot))
	s.addrs.StartAfter(r.IPv4, r.IPv6)
	s.records[r.Key()] = r
	return nil
}

// moveAside renames a file that cannot be used, so that it is kept for whoever
// looks into it and is not read again.
func (s *Store) moveAside(path string, reason error) string {
	if err := os.Rename(path, path+".bad"); err != nil {
		s.log.Error("an endpoint record cannot be used nor moved aside", "file", path, "reason", reason, "error", err)
		return path
	}
	s.log.Error("an endpoint record cannot be used and was moved aside", "file", path+".bad", "reason", reason)
	return path
}
