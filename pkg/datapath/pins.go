// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// pins is the directory on bpffs that holds everything that outlives the agent.
type pins struct {
	root string
	log  *slog.Logger
}

func (p pins) mapsDir() string  { return filepath.Join(p.root, "maps") }
func (p pins) linksDir() string { return filepath.Join(p.root, "links") }

// socketsDir holds the links of the socket programs, by hook.
func (p pins) socketsDir() string { return filepath.Join(p.root, "sockets") }

func (p pins) mapPath(name string, version int) string {
	return filepath.Join(p.mapsDir(), name+"_v"+strconv.Itoa(version))
}

// linkPath is where the link of a device is pinned. bpffs refuses dots.
func (p pins) linkPath(ifname, side string) string {
	name := strings.NewReplacer("%", "%25", ".", "%2e").Replace(ifname)
	return filepath.Join(p.linksDir(), name+side)
}

// deviceOfPin undoes what linkPath does to a device's name.
func deviceOfPin(name string) string {
	return strings.NewReplacer("%25", "%", "%2e", ".").Replace(name)
}

// unsweptDir marks, also for an agent that comes after a crash, that addresses
// were written and flows perhaps not yet swept.
func (p pins) unsweptDir() string { return filepath.Join(p.root, "unswept") }

// markUnswept tells whether the mark was there already.
func (p pins) markUnswept() (already bool, err error) {
	err = os.Mkdir(p.unsweptDir(), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("marking that flows are to be swept: %w", err)
	}
	return false, nil
}

func (p pins) markSwept() error {
	if err := os.Remove(p.unsweptDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("marking that flows were swept: %w", err)
	}
	return nil
}

// prepare makes the directories, and mounts a bpffs around them if there is
// none.
func (p pins) prepare() error {
	if p.root == "" {
		return errors.New("no directory for BPF pins is configured")
	}
	mounted, err := onBPFFS(p.root)
	if err != nil {
		return err
	}
	if !mounted {
		if err := mountBPFFS(filepath.Dir(filepath.Clean(p.root))); err != nil {
			return err
		}
	}
	for _, dir := range []string{p.mapsDir(), p.linksDir(), p.socketsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory for BPF pins: %w", err)
		}
	}
	return nil
}

// onBPFFS tells whether a path, or the nearest parent that exists, is on bpffs.
func onBPFFS(path string) (bool, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			return int64(st.Type) == unix.BPF_FS_MAGIC, nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return false, fmt.Errorf("looking for a bpffs at %s: %w", path, err)
		}
		path = parent
	}
}

func mountBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the mount point of bpffs: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME)
	if err := unix.Mount("bpf", dir, "bpf", flags, "mode=700"); err != nil {
		return fmt.Errorf("mounting bpffs at %s: %w", dir, err)
	}
	return nil
}

// adopt opens every map: the pinned one, or a new one where there is none of
// this layout. What is pinned under other versions is to be carried over.
func (p pins) adopt(spec *ebpf.CollectionSpec) (*adoption, error) {
	a := &adoption{maps: make(map[string]*ebpf.Map), log: p.log}
	for _, pin := range pinnedMaps() {
		ms := spec.Maps[pin.name]
		if ms == nil {
			a.close()
			return nil, fmt.Errorf("the object has no map %s", pin.name)
		}
		if err := p.adoptMap(a, pin, ms); err != nil {
			a.close()
			return nil, fmt.Errorf("adopting map %s: %w", pin.name, err)
		}
	}
	return a, nil
}

func (p pins) adoptMap(a *adoption, pin mapPin, ms *ebpf.MapSpec) error {
	m, created, err := p.openMap(pin, ms)
	if err != nil {
		return err
	}
	a.maps[pin.name] = m
	olds, err := p.otherVersions(pin)
	if err != nil {
		return err
	}
	for _, path := range olds {
		a.oldPins = append(a.oldPins, path)
		if !pin.keep {
			continue
		}
		from, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			return fmt.Errorf("opening its pin of another version: %w", err)
		}
		p.log.Info("carrying over a map of another layout", "map", pin.name, "from", filepath.Base(path))
		a.moves = append(a.moves, move{pin: pin, spec: ms, from: from, to: m, created: created})
	}
	return nil
}

// openMap opens a map's pin, or makes map and pin. A pinned map of the same
// version but another size steps aside as version 0, to be carried over.
func (p pins) openMap(pin mapPin, ms *ebpf.MapSpec) (m *ebpf.Map, created bool, err error) {
	path := p.mapPath(pin.name, pin.version)
	m, err = ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		mismatch := ms.Compatible(m)
		if mismatch == nil {
			return m, false, nil
		}
		if m.MaxEntries() != ms.MaxEntries {
			p.log.Info("a map has another size now", "map", pin.name, "from", m.MaxEntries(), "to", ms.MaxEntries)
		} else {
			p.log.Warn("a pinned map does not fit the programs", "map", pin.name, "difference", mismatch)
		}
		m.Close()
		if err := os.Rename(path, p.mapPath(pin.name, 0)); err != nil {
			return nil, false, fmt.Errorf("setting aside a pinned map that does not fit: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("opening the pin: %w", err)
	}
	if m, err = ebpf.NewMap(ms); err != nil {
		return nil, false, err
	}
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, false, fmt.Errorf("pinning it: %w", err)
	}
	return m, true, nil
}

// otherVersions finds the pins of a map under versions that are not ours, the
// oldest number first.
func (p pins) otherVersions(pin mapPin) ([]string, error) {
	entries, err := os.ReadDir(p.mapsDir())
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), pin.name+"_v")
		if !ok {
			continue
		}
		if v, err := strconv.Atoi(suffix); err == nil && v != pin.version {
			found = append(found, filepath.Join(p.mapsDir(), e.Name()))
		}
	}
	return found, nil
}
