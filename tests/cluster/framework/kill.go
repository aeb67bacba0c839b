// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"fmt"
	"strings"
	"time"
)

// Processes of a name on a node.
func (w *World) Processes(n int, name string) (all []string, err error) {
	out, err := w.Node(n).Run(w.T.Context(), "grep -lsx "+name+" /proc/[0-9]*/comm; true")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	for _, file := range strings.Fields(out) {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(file, "/proc/"), "/comm"))
	}
	return all, nil
}

// Kill ends a node's only process of a name with SIGKILL, and gives the look whether
// another is there.
func (w *World) Kill(n int, name string) (back func() error, err error) {
	old, err := w.Processes(n, name)
	if err == nil && len(old) != 1 {
		err = fmt.Errorf("of %s on node %d there are %v", name, n, old)
	}
	if err != nil {
		return nil, err
	}
	back = func() error {
		now, err := w.Processes(n, name)
		if err == nil && (len(now) != 1 || now[0] == old[0]) {
			err = fmt.Errorf("of %s on node %d there are %v, and was %s", name, n, now, old[0])
		}
		return err
	}
	return back, Said(w.Node(n).Run(w.T.Context(), "kill -9 "+old[0]))
}

// Dies kills a node's process, and waits until another is there.
func (w *World) Dies(n int, name string, atMost time.Duration) {
	w.T.Helper()
	back, err := w.Kill(n, name)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Eventually(atMost, fmt.Sprintf("back on node %d: %s", n, name), back)
}
