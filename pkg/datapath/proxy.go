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

// Pins of the links that only a node with a proxy has.
const (
	listenPin = "listen"
	lookupPin = "lookup"
)

// lookupProgram is the name in the object of the program of look-ups of sockets.
const lookupProgram = "weft_lookup"

// SetProxy makes the kernel know the proxy by its group, and hand over to it while it
// is active. Its listeners are known from when they begin to listen: it must come
// first. It is idempotent.
func (d *Datapath) SetProxy(p model.Proxy) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var row weftbpf.BpfWeftL7Row
	row.Prefer = uint32(p.Prefer)
	if p.Active {
		row.Active = 1
	}
	if p.Cgroup == "" {
		return errors.Join(d.writeProxy(row), d.detachProxy())
	}
	id, err := cgroupNumber(p.Cgroup)
	if err != nil {
		return fmt.Errorf("finding the proxy's group: %w", err)
	}
	row.Cgroup = id
	listen := socketHook{name: listenPin, attach: ebpf.AttachCGroupSockOps, prog: d.progs.WeftListen}
	if err := attachSocket(d.pins, p.Cgroup, id, listen, d.log); err != nil {
		return fmt.Errorf("attaching to the proxy's group %s: %w", p.Cgroup, err)
	}
	if err := d.attachLookup(); err != nil {
		return fmt.Errorf("attaching to the host's look-ups of sockets: %w", err)
	}
	return d.writeProxy(row)
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
	for _, name := range []string{listenPin, lookupPin} {
		errs = append(errs, removeLink(filepath.Join(d.pins.socketsDir(), name)))
	}
	return errors.Join(errs...)
}

// adoptProxy puts the new programs into the links that an earlier agent left.
func (d *Datapath) adoptProxy() error {
	for name, prog := range map[string]*ebpf.Program{listenPin: d.progs.WeftListen, lookupPin: d.progs.WeftLookup} {
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

// SetRulesetSuccessors says which rulesets satisfy another one, too: open connections
// of the first may stay when policy asks for the second. Others satisfy none. What held
// before goes on doing so as long as policy may still be that of before.
func (d *Datapath) SetRulesetSuccessors(as, before map[model.RulesetID]model.RulesetID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range model.RulesetID(model.MaxRulesets + 1) {
		want := weftbpf.BpfWeftRulesetRow{As: uint16(as[id]), Before: uint16(before[id])}
		var have weftbpf.BpfWeftRulesetRow
		if err := d.maps.WeftRuleset.Lookup(uint32(id), &have); err != nil {
			return fmt.Errorf("reading ruleset %d: %w", id, err)
		}
		if have == want {
			continue
		}
		if err := d.maps.WeftRuleset.Put(uint32(id), want); err != nil {
			return fmt.Errorf("writing ruleset %d: %w", id, err)
		}
	}
	return nil
}

// ReadyRulesets are the rulesets for whose connections, of both families, the proxy
// listens in the preferred block, sorted.
func (d *Datapath) ReadyRulesets() ([]model.RulesetID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var row weftbpf.BpfWeftL7Row
	if err := d.maps.WeftL7.Lookup(uint32(0), &row); err != nil {
		return nil, fmt.Errorf("reading the proxy's row: %w", err)
	}
	listens := make(map[model.RulesetID]map[uint8]bool) // by family
	var key, next weftbpf.BpfWeftProxyKey
	err := d.maps.WeftProxy.NextKey(nil, &next)
	for ; err == nil; err = d.maps.WeftProxy.NextKey(key, &next) {
		key = next
		if uint32(key.Block) != row.Prefer {
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
