// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Processes writes those that can be seen, with their parents, memory and arguments.
func Processes(w io.Writer) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // ended
		}
		arguments, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // a kernel thread has none
		value := func(name string) string {
			_, after, _ := strings.Cut("\n"+string(status), "\n"+name+":")
			line, _, _ := strings.Cut(after, "\n")
			return strings.TrimSpace(line)
		}
		fmt.Fprintf(w, "%s of %s, %s, %s: %s\n", value("Pid"), value("PPid"), value("State"), value("VmRSS"),
			bytes.TrimSpace(bytes.ReplaceAll(arguments, []byte{0}, []byte{' '})))
	}
	return nil
}
