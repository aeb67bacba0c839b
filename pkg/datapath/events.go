// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// FlowReader reads flow events. One goroutine uses it.
type FlowReader struct {
	dp     *Datapath
	ring   *ringbuf.Reader
	record ringbuf.Record
}

// Flows opens the ring buffer of flow events.
func (d *Datapath) Flows() (*FlowReader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ring, err := ringbuf.NewReader(d.maps.WeftEvents)
	if err != nil {
		return nil, fmt.Errorf("opening the ring buffer of flow events: %w", err)
	}
	return &FlowReader{dp: d, ring: ring}, nil
}

// ReadFlow returns the next event (struct weft_flow), good until the next call.
// When there is none it waits until the deadline and fails with
// os.ErrDeadlineExceeded; after Close it fails with os.ErrClosed.
func (r *FlowReader) ReadFlow(deadline time.Time) ([]byte, error) {
	r.ring.SetDeadline(deadline)
	err := r.ring.ReadInto(&r.record)
	switch {
	case err == nil:
		return r.record.RawSample, nil
	case errors.Is(err, ringbuf.ErrClosed):
		return nil, os.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, os.ErrDeadlineExceeded
	}
	return nil, fmt.Errorf("reading flow events: %w", err)
}

// LostFlows is how many events the kernel had no room for, ever.
func (r *FlowReader) LostFlows() (uint64, error) { return r.dp.LostEvents() }

// Close ends reading; events go on to be counted as lost once the buffer is full.
func (r *FlowReader) Close() error { return r.ring.Close() }
