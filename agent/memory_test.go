// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsGivenBackWhenABurstIsOver(t *testing.T) {
	debug.FreeOSMemory()
	calm := readHeap()
	if calm.spare(spareLimit) {
		t.Errorf("%+v is to be given back, just after it was", calm)
	}
	var burst [][]byte
	for range 64 {
		burst = append(burst, make([]byte, 1<<20))
	}
	for _, b := range burst { // so that the pages are there
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	runtime.KeepAlive(burst)
	full := readHeap()
	if full.held < calm.held+48<<20 { // what others let go meanwhile counts against it
		t.Errorf("with 64 MiB more %+v is held, and %+v before", full, calm)
	}
	burst = nil
	runtime.GC()
	if after := readHeap(); !after.spare(spareLimit) {
		t.Errorf("%+v is not to be given back, with 64 MiB of garbage", after)
	}
	debug.FreeOSMemory()
	if now := readHeap(); now.spare(spareLimit) || now.held > full.held-48<<20 {
		t.Errorf("%+v is left of %+v", now, full)
	}
}
