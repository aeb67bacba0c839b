// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// lookupPin is the pin of a link that only a node with a proxy has.
const lookupPin = "lookup"

// listenPins are those of its links by which listeners are seen, by block.
func listenPins() [model.ProxyBlocks]string { return [model.ProxyBlocks]string{"listen", "listen1"} }

// lookupProgram is the name in the object of the program of look-ups of sockets.
const lookupProgram = "weft_lookup"

// SetProxy makes the kernel know proxies by their groups, and hand over to them while
// they are active. Listeners are known from when they begin to listen: it must come
// first. It is idempotent.
func (d *Datapath) SetProxy(p model.Proxy) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p == (model.Proxy{}) {
		return errors.Join(d.writeProxy(weftbpf.BpfWeftL7Row{}), d.detachProxy())
	}
	row, err := d.readProxy()
	if err != nil {
		return err
	}
	row.Prefer, row.Active = uint32(p.Prefer), 0
	if p.Active {
		row.Active = 1
	}
	for block, dir := range p.Cgroups {
		if dir == "" {
			continue
		}
		if row.Cgroup[block], err = d.attachListen(block, dir); err != nil {
			return err
		}
	}
	if err := d.attachLookup(); err != nil {
		return fmt.Errorf("attaching to the host's look-ups of sockets: %w", err)
	}
	return d.writeProxy(row)
}

// attachListen has the listeners of a group seen, and gives the group's number.
func (d *Datapath) attachListen(block int, dir string) (uint64, error) {
	id, err := cgroupNumber(dir)
	if err != nil {
		return 0, fmt.Errorf("finding the proxy's group: %w", err)
	}
	listen := socketHook{name: listenPins()[block], attach: ebpf.AttachCGroupSockOps, prog: d.progs.WeftListen}
	if err := attachSocket(d.pins, dir, id, listen, d.log); err != nil {
		return 0, fmt.Errorf("attaching to the proxy's group %s: %w", dir, err)
	}
	return id, nil
}

// PreferredBlock is the block of the listeners that new connections go to.
func (d *Datapath) PreferredBlock() (uint8, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	row, err := d.readProxy()
	return uint8(row.Prefer), err
}

func (d *Datapath) readProxy() (row weftbpf.BpfWeftL7Row, err error) {
	if err := d.maps.WeftL7.Lookup(uint32(0), &row); err != nil {
		return row, fmt.Errorf("reading the proxy's row: %w", err)
	}
	return row, nil
}

func (d *Datapath) writeProxy(row weftbpf.BpfWeftL7Row) error {
	if err := d.maps.WeftL7.Put(uint32(0), row); err != nil {
		return fmt.Errorf("writing the proxy's row: %w", err)
	}
	return nil
}

// detachProxy ends what only a proxy needs.
func (d *Datapath) detachProxy() error {
	var errs []error
	pins := listenPins()
	for _, name := range append(pins[:], lookupPin) {
		errs = append(errs, removeLink(filepath.Join(d.pins.socketsDir(), name)))
	}
	return errors.Join(errs...)
}

// adoptProxy puts the new programs into the links that an earlier agent left.
func (d *Datapath) adoptProxy() error {
	pins := map[string]*ebpf.Program{lookupPin: d.progs.WeftLookup}
	for _, name := range listenPins() {
		pins[name] = d.progs.WeftListen
	}
	for name, prog := range pins {
		old, err := link.LoadPinnedLink(filepath.Join(d.pins.socketsDir(), name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("opening the pinned link %s: %w", name, err)
		}
		err = old.Update(prog)
		_ = old.Close()
		if err != nil && !errors.Is(err, unix.ENOLINK) { // the group, or the namespace, is gone
			return fmt.Errorf("replacing the program of link %s: %w", name, err)
		}
	}
	return nil
}

// attachLookup attaches to the network namespace of this process, the host's.
func (d *Datapath) attachLookup() error {
	path := filepath.Join(d.pins.socketsDir(), lookupPin)
	old, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		err := old.Update(d.progs.WeftLookup)
		_ = old.Close()
		if !errors.Is(err, unix.ENOLINK) {
			return err
		}
		if err := removeLink(path); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the pinned link: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	l, err := link.AttachNetNs(int(ns.Fd()), d.progs.WeftLookup)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pinning the link: %w", err)
	}
	return nil
}

// ReadyRulesets are the rulesets for whose connections, of both families, a proxy
// listens, sorted: where the one of the preferred block does not, the other has them.
func (d *Datapath) ReadyRulesets() ([]model.RulesetID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	row, err := d.readProxy()
	if err != nil {
		return nil, err
	}
	listens := make(map[model.RulesetID]map[uint8]bool) // by family
	var key, next weftbpf.BpfWeftProxyKey
	err = d.maps.WeftProxy.NextKey(nil, &next)
	for ; err == nil; err = d.maps.WeftProxy.NextKey(key, &next) {
		key = next
		if row.Cgroup[key.Block] == 0 {
			continue
		}
		id := model.RulesetID(key.Ruleset)
		if listens[id] == nil {
			listens[id] = make(map[uint8]bool, 2)
		}
		listens[id][key.Family] = true
	}
	if !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, fmt.Errorf("listing the proxy's listeners: %w", err)
	}
	maps.DeleteFunc(listens, func(_ model.RulesetID, families map[uint8]bool) bool { return len(families) < 2 })
	return slices.Sorted(maps.Keys(listens)), nil
}

// RulesetsInUse are the rulesets that connections have, also those that no policy
// names any more. It reads all of conntrack.
func (d *Datapath) RulesetsInUse() (map[model.RulesetID]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := make(map[model.RulesetID]bool)
	note := func(ct *weftbpf.BpfWeftCt) {
		if ct.Ruleset != 0 {
			used[model.RulesetID(ct.Ruleset)] = true
		}
	}
	err := errors.Join(
		dump(d.maps.WeftCt4, func(_ weftbpf.BpfWeftCt4Key, row weftbpf.BpfWeftCt4Row) error { note(&row.Ct); return nil }),
		dump(d.maps.WeftCt6, func(_ weftbpf.BpfWeftCt6Key, row weftbpf.BpfWeftCt6Row) error { note(&row.Ct); return nil }),
		dump(d.maps.WeftCtn4, func(_ weftbpf.BpfWeftCt4Key, ct weftbpf.BpfWeftCt) error { note(&ct); return nil }),
		dump(d.maps.WeftCtn6, func(_ weftbpf.BpfWeftCt6Key, ct weftbpf.BpfWeftCt) error { note(&ct); return nil }),
	)
	if err != nil {
		return nil, fmt.Errorf("looking for rulesets of connections: %w", err)
	}
	return used, nil
}
