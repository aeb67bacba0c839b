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
	values, err := renderValues("../../../daemonset/chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want += values
	got, err := os.ReadFile("../../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/CONFIGURATION.md is out of date; run: go generate ./pkg/config")
	}
}
