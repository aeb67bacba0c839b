// SPDX-License-Identifier: Apache-2.0

// Package lb compiles services and endpoint slices into front ends, the slots
// that a front end chooses from, and backends, and says why a service is not
// served. It decides and does nothing else: no I/O, no clock.
package lb
