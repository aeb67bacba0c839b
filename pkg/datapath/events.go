// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// pollEvents bounds how late an event is read: the programs wake nobody up
// while there is room, which costs a busy node least.
const pollEvents = 50 * time.Millisecond

// RunEvents calls fn with every flow event until the context ends, which is no
// error. raw is good only during the call. One reader at a time.
func (d *Datapath) RunEvents(ctx context.Context, fn func(raw *weftbpf.BpfWeftFlow)) error {
	reader, err := ringbuf.NewReader(d.maps.WeftEvents)
	if err != nil {
		return fmt.Errorf("opening the ring buffer of flow events: %w", err)
	}
	defer reader.Close()
	var record ringbuf.Record
	for ctx.Err() == nil {
		reader.SetDeadline(time.Now().Add(pollEvents))
		err := reader.ReadInto(&record)
		for ; err == nil && ctx.Err() == nil; err = reader.ReadInto(&record) {
			if raw := asFlow(record.RawSample); raw != nil {
				fn(raw)
			}
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("reading flow events: %w", err)
		}
	}
	return nil
}

// asFlow looks at a sample as an event, without a copy: the reader's buffer is
// an allocation of its own, and so aligned. A sample of another size is none.
func asFlow(sample []byte) *weftbpf.BpfWeftFlow {
	if len(sample) < int(unsafe.Sizeof(weftbpf.BpfWeftFlow{})) {
		return nil
	}
	return (*weftbpf.BpfWeftFlow)(unsafe.Pointer(&sample[0]))
}
