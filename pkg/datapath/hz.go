// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// kernelHZ is the number of jiffies a second: as the kernel's configuration
// tells, or, where that cannot be read, measured.
func kernelHZ() (uint32, error) {
	if hz, err := configHZ("/proc/config.gz"); err == nil {
		return hz, nil
	}
	if hz, err := configHZ("/boot/config-" + kernelRelease()); err == nil {
		return hz, nil
	}
	hz, err := measureHZ()
	if err != nil {
		return 0, fmt.Errorf("measuring the kernel's tick: %w", err)
	}
	return hz, nil
}

// configHZ reads CONFIG_HZ from a kernel configuration, gzipped or not.
func configHZ(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return 0, err
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "CONFIG_HZ="); ok {
			hz, err := strconv.ParseUint(value, 10, 16)
			if err == nil && hz == 0 {
				err = fmt.Errorf("CONFIG_HZ is 0")
			}
			return uint32(hz), err
		}
	}
	return 0, fmt.Errorf("no CONFIG_HZ in %s: %w", path, lines.Err())
}

// measureHZ counts jiffies over at least 200 ms, which tells the rates that
// kernels are built with apart (250 and 300 differ by ten jiffies).
func measureHZ() (uint32, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weft_jiffies", Type: ebpf.Syscall, License: "Dual BSD/GPL",
		Flags:        1 << 4, // BPF_F_SLEEPABLE: the only kind of syscall program
		Instructions: asm.Instructions{asm.FnJiffies64.Call(), asm.Return()},
	})
	if err != nil {
		return 0, err
	}
	defer prog.Close()
	from, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(200 * time.Millisecond)
	to, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, err
	}
	return snapHZ(float64(to-from) / time.Since(began).Seconds()), nil
}

// snapHZ is the rate that kernels are built with nearest to a measured one.
func snapHZ(measured float64) uint32 {
	best := uint32(250)
	for _, hz := range []uint32{100, 250, 300, 1000} {
		if abs(float64(hz)-measured) < abs(float64(best)-measured) {
			best = hz
		}
	}
	return best
}

func abs(x float64) float64 { return max(x, -x) }
