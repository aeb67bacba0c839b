// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// RunEvents calls fn with every flow event until the context ends, which is no
// error. raw is good only during the call. One reader at a time.
func (d *Datapath) RunEvents(ctx context.Context, fn func(raw *weftbpf.BpfWeftFlow)) error {
	reader, err := d.openEvents()
	if err != nil {
		return err
	}
	defer d.closeEvents()
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer stop()

	var record ringbuf.Record
	for {
		err := reader.ReadInto(&record)
		if errors.Is(err, ringbuf.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading flow events: %w", err)
		}
		if raw := asFlow(record.RawSample); raw != nil {
			fn(raw)
		}
	}
}

func (d *Datapath) openEvents() (*ringbuf.Reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.events != nil {
		return nil, errors.New("flow events already have a reader")
	}
	reader, err := ringbuf.NewReader(d.maps.WeftEvents)
	if err != nil {
		return nil, fmt.Errorf("opening the ring buffer of flow events: %w", err)
	}
	d.events = reader
	return reader, nil
}

func (d *Datapath) closeEvents() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.events != nil {
		d.events.Close()
		d.events = nil
	}
}

// asFlow looks at a sample as an event, without a copy: the reader's buffer is
// an allocation of its own, and so aligned. A sample of another size is none.
func asFlow(sample []byte) *weftbpf.BpfWeftFlow {
	if len(sample) < int(unsafe.Sizeof(weftbpf.BpfWeftFlow{})) {
		return nil
	}
	return (*weftbpf.BpfWeftFlow)(unsafe.Pointer(&sample[0]))
}
