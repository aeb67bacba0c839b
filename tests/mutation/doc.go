// SPDX-License-Identifier: Apache-2.0

// Package mutation puts deliberate faults into a copy of the tree, one at a time:
// each must make the tests that are named beside it fail. A long run tries all;
// every run looks whether the faults still fit the sources.
package mutation
