// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the kernel to what the desired tables say. One pass
// is idempotent and bounded; a row that fails is tried again with a back-off of
// its own and holds up no other; a periodic check compares with what the kernel
// really holds, so that a change behind our back is mended.
package reconcile
