// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// socketHook is one kind of call of a process that a program sees.
type socketHook struct {
	name   string // of the pin
	attach ebpf.AttachType
	prog   *ebpf.Program
}

// socketHooks lists those that tell the reverse first: an address is never
// translated where it would not be translated back.
func socketHooks(p *weftbpf.BpfPrograms) []socketHook {
	return []socketHook{
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, p.WeftPeername4},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, p.WeftPeername6},
		{"recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, p.WeftRecvmsg4},
		{"recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, p.WeftRecvmsg6},
		{"sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, p.WeftSendmsg4},
		{"sendmsg6", ebpf.AttachCGroupUDP6Sendmsg, p.WeftSendmsg6},
		{"connect4", ebpf.AttachCGroupInet4Connect, p.WeftConnect4},
		{"connect6", ebpf.AttachCGroupInet6Connect, p.WeftConnect6},
		{"bind4", ebpf.AttachCGroupInet4Bind, p.WeftBind4},
		{"bind6", ebpf.AttachCGroupInet6Bind, p.WeftBind6},
	}
}

// attachSockets puts the socket programs on the cgroup: into the links that are
// pinned, without a moment in which a call meets none, or into new ones.
func attachSockets(p pins, dir string, progs *weftbpf.BpfPrograms, log *slog.Logger) error {
	if dir == "" {
		found, err := cgroup.FindMount()
		if err != nil {
			return err
		}
		dir = found
	}
	id, err := cgroupNumber(dir)
	if err != nil {
		return fmt.Errorf("%w (the setting cgroup names it; empty: the whole host)", err)
	}
	for _, h := range socketHooks(progs) {
		if err := attachSocket(p, dir, id, h, log); err != nil {
			return fmt.Errorf("attaching %s to the cgroup %s: %w", h.name, dir, err)
		}
	}
	return nil
}

// cgroupNumber is the number by which the kernel knows a folder of cgroup2.
func cgroupNumber(dir string) (uint64, error) {
	var on unix.Statfs_t
	if err := unix.Statfs(dir, &on); err != nil {
		return 0, fmt.Errorf("looking at the cgroup %s: %w", dir, err)
	}
	if on.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("%s is no folder of cgroup2", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("looking at the cgroup %s: %w", dir, err)
	}
	return st.Ino, nil
}

func attachSocket(p pins, dir string, id uint64, h socketHook, log *slog.Logger) error {
	path := filepath.Join(p.socketsDir(), h.name)
	old, err := link.LoadPinnedLink(path, nil)
	if err == nil {
		defer old.Close()
		if onCgroup(old, id) {
			if err := old.Update(h.prog); !errors.Is(err, unix.ENOLINK) {
				return err
			}
		}
		log.Info("socket programs move to another cgroup", "hook", h.name, "cgroup", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the pinned link: %w", err)
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: h.attach, Program: h.prog})
	if err != nil {
		return err
	}
	defer l.Close()
	if old != nil {
		if err := removeLink(path); err != nil {
			return err
		}
	}
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pinning the link: %w", err)
	}
	return nil
}

// onCgroup tells whether a link is attached to the cgroup with that number.
func onCgroup(l link.Link, id uint64) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	cg := info.Cgroup()
	return cg != nil && cg.CgroupId == id
}
