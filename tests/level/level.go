// SPDX-License-Identifier: Apache-2.0

// Package level tells a test how much to do and which seed to use: `make test`
// does a tenth of the numbers with a fixed seed, `make test-long` all of them
// with a random one, which the runner prints.
package level

import (
	"os"
	"strconv"
)

// Environment that the test runner sets.
const (
	LongEnv = "WEFT_TEST_LONG"
	SeedEnv = "WEFT_TEST_SEED"
)

// Long tells whether the full numbers are wanted.
func Long() bool { return os.Getenv(LongEnv) != "" }

// Scale is n in a long run, else a tenth of it, at least 1.
func Scale(n int) int {
	if Long() {
		return n
	}
	return max(1, n/10)
}

// Seed for the random choices of tests; 1 unless the runner set another.
func Seed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv(SeedEnv), 10, 64); err == nil {
		return n
	}
	return 1
}
