// SPDX-License-Identifier: Apache-2.0

// Package engine is the heart of the agent: it compiles each snapshot of intent
// into what the kernel is to hold, has it brought about, and tells how far the
// kernel has come. Compilation is pure (compile.go, plan.go); the loop around
// it (run.go) owns all that changes.
package engine
