// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func TestFuzzTargetsAreFound(t *testing.T) {
	source := []byte("package p\n\nfunc FuzzA(f *testing.F) {\n}\n\n// func FuzzB(\nfunc fuzzC() {}\nfunc FuzzD_2(f *testing.F) {}\n")
	if got := targetsIn(source); !slices.Equal(got, []string{"FuzzA", "FuzzD_2"}) {
		t.Errorf("found %v", got)
	}
	all, err := fuzzTargets(t.Context(), []string{"."})
	if err != nil || len(all) != 0 {
		t.Errorf("in this package there is none, found %v, %v", all, err)
	}
}
