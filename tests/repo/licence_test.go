// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// permissive are the licences that a dependency may have, known by a sentence
// that their texts have in common.
func permissive() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"Apache-2.0": regexp.MustCompile(`(?i)Apache License,?\s+Version 2\.0`),
		"MIT":        regexp.MustCompile(`(?i)Permission is hereby granted, free of charge`),
		"BSD":        regexp.MustCompile(`(?i)Redistribution and use in source and binary forms`),
		"ISC":        regexp.MustCompile(`(?i)Permission to use, copy, modify, and(/or)? distribute this software`),
		"MPL-2.0":    regexp.MustCompile(`(?i)Mozilla Public License,?\s+v(ersion|\.) ?2\.0`),
	}
}

var copyleft = regexp.MustCompile(`(?i)GNU (Affero |Lesser |Library )?General Public License`)

// TestDependenciesMayBeShipped looks at every module that is compiled into a
// binary.
func TestDependenciesMayBeShipped(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		mod, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if mod == "" || seen[mod] {
			continue
		}
		seen[mod] = true
		if name := licenceOf(t, dir); name == "" {
			t.Errorf("%s: no licence known to be permissive in %s", mod, dir)
		}
	}
}

func licenceOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`(?i)^(licen[cs]e|copying)`)
	for _, e := range entries {
		if e.IsDir() || !name.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for licence, sentence := range permissive() {
			if sentence.Match(text) && (!copyleft.Match(text) || licence == "MPL-2.0") {
				return licence
			}
		}
	}
	return ""
}
