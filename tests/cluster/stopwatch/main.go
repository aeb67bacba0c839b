// SPDX-License-Identifier: Apache-2.0

// Command stopwatch takes times inside a cluster, for benchmarks.
//
//	weft-cni                              (under that name) the CNI plugin, timed
//	stopwatch probe LOG NAME=ADDRESS…     ask by UDP, and note when answers end and begin
//
// Times are the machine's monotonic clock, in nanoseconds, which all its network
// namespaces share.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "weft-cni":
		err = plugin()
	case len(os.Args) > 3 && os.Args[1] == "probe":
		err = probe(os.Args[2], os.Args[3:])
	default:
		err = errors.New("usage: stopwatch probe LOG NAME=ADDRESS…")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stopwatch:", err)
		os.Exit(1)
	}
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is such a clock
	}
	return t.Nano()
}

// note appends a line in one write: whoever reads sees it whole.
func note(path, format string, args ...any) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}
