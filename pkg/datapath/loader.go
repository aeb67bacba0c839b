// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// Timeouts bound how long flows are remembered; zero is the default. The kernel
// counts whole seconds.
type Timeouts struct {
	TCP    time.Duration // established and silent; 8000 s
	Any    time.Duration // other answered flows; 60 s
	New    time.Duration // unanswered flows; 60 s
	Closed time.Duration // TCP after both FINs or a RST; 10 s
	Alive  time.Duration // between reports about a living flow; 60 s
}

// Config is what the datapath needs to know of the node.
type Config struct {
	BPFFS      string // directory of the pins, such as /sys/fs/bpf/weft
	Timeouts   Timeouts
	CTEntries4 uint32 // answered flows remembered; 0: as in bpf/maps.h
	CTEntries6 uint32
	FlowEvents bool
	SNATFirst  uint16 // ports that translated flows get if theirs is taken; 0: as in bpf/lib/config.h
	SNATLast   uint16
	TunnelPort uint16         // UDP port of the tunnel between nodes; 0: there is none
	Direct     []netip.Prefix // at most one a family: pods in them speak with pods of other nodes past the host's stack; none with a tunnel
	Attach     AttachMode
	Cgroup     string // directory on cgroup2 whose processes reach services; empty: all
	Log        *slog.Logger
}

// Datapath is the kernel side of this node. Its methods are safe for concurrent
// use. Closing it, or ending the process, leaves traffic as it is.
type Datapath struct {
	log      *slog.Logger
	pins     pins
	attacher attacher
	tunnel   bool          // there is a tunnel between nodes
	setSpec  *ebpf.MapSpec // of one policy set
	ringSpec *ebpf.MapSpec // of one ring of unanswered flows

	endsSockets bool          // the kernel can end sockets
	removed     chan struct{} // backends were removed; holds one
	waits       *graceWaits

	mu      sync.Mutex // over what follows, and over sequences of writes
	maps    weftbpf.BpfMaps
	progs   weftbpf.BpfPrograms
	epoch   uint32 // the newest epoch given out
	sets    setTable
	ports   map[model.FrontendKey]bool // front ends that are ports of the node's
	tracked GCStats                    // of the last collection
}

// Open loads the programs and adopts what an earlier agent left: maps of the
// same layout as they are, those of another layout by carrying their entries
// over, and links by replacing the program in them, which loses no packet.
func Open(cfg Config) (*Datapath, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raising the limit of locked memory: %w", err)
	}
	if err := checkKernel(); err != nil {
		return nil, err
	}
	d := &Datapath{log: cfg.Log, pins: pins{root: cfg.BPFFS, log: cfg.Log},
		endsSockets: haveSockDestroy(), removed: make(chan struct{}, 1), waits: newGraceWaits(), sets: newSetTable(),
		ports: make(map[model.FrontendKey]bool)}
	if !d.endsSockets {
		d.log.Info("the kernel cannot end sockets (bpf_sock_destroy, 6.5): those of removed backends end by themselves")
	}
	if err := d.open(cfg); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) open(cfg Config) error {
	if err := d.pins.prepare(); err != nil {
		return err
	}
	spec, err := loadSpec(cfg)
	if err != nil {
		return err
	}
	d.tunnel = cfg.TunnelPort > 0
	d.setSpec = spec.Maps["weft_polsets"].InnerMap
	d.ringSpec = spec.Maps["weft_pend"].InnerMap

	adopted, err := d.pins.adopt(spec)
	if err != nil {
		return err
	}
	defer adopted.close()
	if err := d.load(spec, adopted); err != nil { // takes a second: nothing waits for it
		return err
	}
	if d.attacher, err = newAttacher(cfg.Attach, d.pins, &d.progs, d.log); err != nil {
		return err
	}
	// What loading took (the kernel's types above all) is not needed again.
	debug.FreeOSMemory()
	if err := d.putInUse(cfg, adopted); err != nil {
		return err
	}
	if err := attachSockets(d.pins, cfg.Cgroup, &d.progs, d.log); err != nil {
		return err
	}
	return d.readState()
}

// loadSpec is the object with the node's configuration in it.
func loadSpec(cfg Config) (*ebpf.CollectionSpec, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("reading the compiled programs: %w", err)
	}
	hz, err := kernelHZ()
	if err != nil {
		return nil, err
	}
	var c weftbpf.BpfWeftConfig
	if err := spec.Variables["weft_cfg"].Get(&c); err != nil {
		return nil, fmt.Errorf("reading the programs' defaults: %w", err)
	}
	c.Hz = hz
	setSeconds(&c.TcpTimeout, cfg.Timeouts.TCP)
	setSeconds(&c.AnyTimeout, cfg.Timeouts.Any)
	setSeconds(&c.NewTimeout, cfg.Timeouts.New)
	setSeconds(&c.CloseTimeout, cfg.Timeouts.Closed)
	setSeconds(&c.AliveEvery, cfg.Timeouts.Alive)
	c.PendMax = spec.Maps["weft_pend"].InnerMap.MaxEntries
	c.FlowEvents = 0
	if cfg.FlowEvents {
		c.FlowEvents = 1
	}
	if cfg.SNATFirst > 0 {
		c.SnatFirst, c.SnatLast = uint32(cfg.SNATFirst), uint32(cfg.SNATLast)
	}
	c.TunnelPort = uint32(cfg.TunnelPort)
	if cfg.TunnelPort == 0 {
		for _, name := range tunnelMaps() {
			spec.Maps[name].MaxEntries = 1
		}
	}
	setDirect(&c, cfg)
	c.SetRetval = 0
	if features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) == nil {
		c.SetRetval = 1
	}
	if c.HostNetns, err = netnsCookie(); err != nil {
		return nil, err
	}
	if err := spec.Variables["weft_cfg"].Set(c); err != nil {
		return nil, fmt.Errorf("configuring the programs: %w", err)
	}
	if cfg.CTEntries4 > 0 {
		spec.Maps["weft_ct4"].MaxEntries = cfg.CTEntries4
	}
	if cfg.CTEntries6 > 0 {
		spec.Maps["weft_ct6"].MaxEntries = cfg.CTEntries6
	}
	return spec, nil
}

// setDirect tells the ranges whose pods pass the host's stack by. Through a tunnel all
// of them do, by the node's number.
func setDirect(c *weftbpf.BpfWeftConfig, cfg Config) {
	if cfg.TunnelPort != 0 {
		return
	}
	for _, p := range cfg.Direct {
		if p.Addr().Is4() {
			row := encodeNode(model.NodeRow{IPv4: p})
			c.Direct4, c.Direct4Mask = row.Ip4, row.Mask4
		} else {
			row := encodeNode(model.NodeRow{IPv6: p})
			c.Direct6, c.Direct6Mask = words(row.Ip6), words(row.Mask6)
		}
	}
}

// words are an address as programs compare it, in their own byte order.
func words(a [16]uint8) [2]uint64 {
	return [2]uint64{binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])}
}

// setSeconds overrides a default, rounding up: a timeout is never 0 s.
func setSeconds(to *uint32, d time.Duration) {
	if d > 0 {
		*to = uint32((d + time.Second - 1) / time.Second)
	}
}

// load verifies and loads the programs on the adopted maps.
func (d *Datapath) load(spec *ebpf.CollectionSpec, adopted *adoption) error {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: adopted.maps})
	if err != nil {
		return fmt.Errorf("loading the programs: %w", err)
	}
	defer coll.Close()
	var objects struct {
		weftbpf.BpfMaps
		weftbpf.BpfPrograms
	}
	if err := coll.Assign(&objects); err != nil {
		return fmt.Errorf("loading the programs: %w", err)
	}
	d.maps, d.progs = objects.BpfMaps, objects.BpfPrograms
	return nil
}

// readState learns from the maps what an earlier agent wrote: the policy sets
// and the newest epoch.
func (d *Datapath) readState() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.readSets(); err != nil {
		return err
	}
	d.startKeeping()
	if err := d.forgetTunnel(); err != nil {
		return err
	}
	err := dump(d.maps.WeftEp, func(_ uint32, row weftbpf.BpfWeftEpRow) error {
		d.epoch = max(d.epoch, row.Epoch)
		return nil
	})
	if err != nil {
		return err
	}
	return d.finishSweep()
}

// Close gives back the handles; programs stay attached and maps pinned.
func (d *Datapath) Close() error {
	d.waits.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	closeSpares(d.sets.spare)
	d.sets.spare = nil
	var errs []error
	if d.progs.WeftFromPod != nil {
		errs = append(errs, d.progs.Close(), d.maps.Close())
	}
	return errors.Join(errs...)
}
