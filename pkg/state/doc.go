// SPDX-License-Identifier: Apache-2.0

// Package state holds the agent's tables: what the sources, the CNI and the
// node itself say (input tables), and what the kernel is to hold (desired
// tables). There is one file a table. Only the methods of Tables write, each in
// one transaction; whoever else looks takes an immutable Snapshot.
//
// Every transaction that changes an input table moves the intent's revision, so
// one watch on it sees every change, and a snapshot knows which revision it is.
package state
