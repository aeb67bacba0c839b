// SPDX-License-Identifier: Apache-2.0

// Package vm boots kernels that distributions ship in emulated machines, and
// runs Weft and its tests on them. Nothing of the kernel is installed here.
// It runs only at the long level: emulation takes minutes.
package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/vm/script"
)

// machine is what is booted: a kernel, files, and what to run.
type machine struct {
	kernel   kernel
	modules  []module
	init     string            // path of the built init
	files    map[string]string // files here by their path in the machine
	folders  map[string]string // folders here, likewise; without folders in them
	commands []script.Command
	memoryMB int
	cpus     int
}

// result is how a command of the plan ended.
type result struct {
	status int
	took   time.Duration
	output string
}

// writeInitramfs writes everything the machine has.
func (m machine) writeInitramfs(w io.Writer) error {
	a := newArchive(w)
	a.console()
	a.copy("/init", m.init)
	plan := script.Plan{Commands: m.commands}
	for _, mod := range m.modules {
		at := path.Join("/modules", mod.name+".ko")
		a.file(at, 0o644, mod.content)
		plan.Modules = append(plan.Modules, at)
	}
	a.copy("/boot/config-"+m.kernel.release, m.kernel.config)
	for at, from := range m.files {
		a.copy(at, from)
	}
	for at, from := range m.folders {
		a.copyDir(at, from)
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	a.file(script.PlanFile, 0o644, raw)
	return a.close()
}

// run boots the machine and returns, when it has powered off, each command's
// result by its name. The console goes to log as it comes.
func (m machine) run(ctx context.Context, initramfs string, log io.Writer) (map[string]result, error) {
	f, err := os.Create(initramfs)
	if err != nil {
		return nil, err
	}
	defer os.Remove(initramfs)
	err = m.writeInitramfs(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", fmt.Sprint(m.cpus), "-m", fmt.Sprint(m.memoryMB),
		"-kernel", m.kernel.image, "-initrd", initramfs,
		// A panic ends the machine instead of hanging it.
		"-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off",
		"-no-reboot", "-nodefaults", "-nographic", "-serial", "stdio", "-nic", "none")
	cmd.Stdout = io.MultiWriter(&console, log)
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("running the machine: %w; its console ends:\n%s", err, tail(console.String()))
	}
	return readConsole(console.String())
}

// readConsole takes the commands' results from what the machine printed.
func readConsole(console string) (map[string]result, error) {
	results := make(map[string]result)
	var since strings.Builder
	for line := range strings.Lines(console) {
		line = strings.TrimRight(line, "\r\n")
		if trouble, ok := strings.CutPrefix(line, script.TroubleMark); ok {
			return results, fmt.Errorf("in the machine: %s; its console ends:\n%s", trouble, tail(console))
		}
		end, ok := strings.CutPrefix(line, script.ResultMark)
		if !ok {
			since.WriteString(line + "\n")
			continue
		}
		var name string
		var status int
		var seconds float64
		if _, err := fmt.Sscan(end, &name, &status, &seconds); err != nil {
			return results, fmt.Errorf("reading %q: %w", line, err)
		}
		results[name] = result{status, time.Duration(seconds * float64(time.Second)), since.String()}
		since.Reset()
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("the machine ended early; its console ends:\n%s", tail(console))
	}
	return results, nil
}

func tail(s string) string { return s[max(0, len(s)-4<<10):] }
