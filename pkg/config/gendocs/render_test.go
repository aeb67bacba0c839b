// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
)

func TestReferenceIsCurrent(t *testing.T) {
	want, err := render("../config.go")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/CONFIGURATION.md is out of date; run: go generate ./pkg/config")
	}
}
