// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// checkKernel names everything the kernel lacks in one line.
func checkKernel() error {
	var missing []string
	for _, need := range []struct {
		what  string
		probe func() error
	}{
		{"its own BTF (CONFIG_DEBUG_INFO_BTF)", haveBTF},
		{"BPF ring buffers (5.8)", func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{"LPM tries (4.11)", func() error { return features.HaveMapType(ebpf.LPMTrie) }},
		{"LRU hashes (4.10)", func() error { return features.HaveMapType(ebpf.LRUHash) }},
		{"bpf_redirect_peer (5.10)", func() error {
			return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectPeer)
		}},
		{"syscall programs (5.14)", func() error { return features.HaveProgramType(ebpf.Syscall) }},
		{"bpf_for_each_map_elem (5.13)", func() error {
			return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnForEachMapElem)
		}},
	} {
		err := need.probe()
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: loading BPF is not permitted (root, or CAP_BPF with CAP_NET_ADMIN, is needed)", ErrKernel)
		}
		if err != nil {
			missing = append(missing, need.what)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s lacks %s; 5.15 or later with BTF is needed",
		ErrKernel, kernelRelease(), strings.Join(missing, ", "))
}

func haveBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

// kernelRelease is what `uname -r` prints.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "the kernel"
	}
	return unix.ByteSliceToString(u.Release[:])
}
