// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	copyDir       = "build/check/tree"
	toolchainFile = "pkg/datapath/weftbpf/TOOLCHAIN"
	libbpfHeader  = "/usr/include/bpf/libbpf_version.h"
)

// generatedCurrent generates everything in a copy of the tree and compares it
// with the tree, so that the tree itself is never changed by a check.
func generatedCurrent(ctx context.Context) error {
	if err := copyTree(ctx); err != nil {
		return err
	}
	if err := runIn(ctx, copyDir, nil, "go", "generate", "./..."); err != nil {
		return err
	}
	sameCompiler, err := compilerMatches(ctx)
	if err != nil {
		return err
	}
	return compare(sameCompiler)
}

// copyTree makes build/check/tree afresh from the repository's files.
func copyTree(ctx context.Context) error {
	if err := os.RemoveAll(copyDir); err != nil {
		return fmt.Errorf("clearing %s: %w", copyDir, err)
	}
	files, err := sources(ctx, "")
	if err != nil {
		return err
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("copying the tree: %w", err)
		}
		to := filepath.Join(copyDir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("copying the tree: %w", err)
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return fmt.Errorf("copying the tree: %w", err)
		}
	}
	tools, err := filepath.Abs("build/tools")
	if err != nil {
		return fmt.Errorf("copying the tree: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(copyDir, "build"), 0o755); err != nil {
		return fmt.Errorf("copying the tree: %w", err)
	}
	return os.Symlink(tools, filepath.Join(copyDir, "build/tools"))
}

// compare walks the copy: a file that differs, or is in one tree only, is stale.
// Kernel objects made by another compiler are not compared.
func compare(sameCompiler bool) error {
	var stale []error
	err := filepath.WalkDir(copyDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(copyDir, path)
		if err != nil || d.IsDir() {
			if name == "build" {
				return filepath.SkipDir
			}
			return err
		}
		if strings.HasSuffix(name, ".o") && !sameCompiler {
			return nil
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, want) {
			stale = append(stale, fmt.Errorf("stale: %s (run make generate)", name))
		}
		return nil
	})
	return errors.Join(append(stale, err)...)
}

// compilerMatches tells whether this machine has what made the committed
// objects; another one is good for building, not for comparing bytes.
func compilerMatches(ctx context.Context) (bool, error) {
	here, err := toolchain(ctx)
	if err != nil {
		return false, err
	}
	recorded, err := os.ReadFile(toolchainFile)
	if err != nil {
		return false, fmt.Errorf("which compiler made the kernel objects? %w", err)
	}
	if here == string(recorded) {
		return true, nil
	}
	fmt.Printf("     note: the kernel objects were made by\n%s       here is\n%s       so they were built, and their bytes not compared\n",
		indent(string(recorded)), indent(here))
	return false, nil
}

func recordToolchain(ctx context.Context) error {
	here, err := toolchain(ctx)
	if err != nil {
		return err
	}
	return os.WriteFile(toolchainFile, []byte(here), 0o644)
}

var libbpfNumber = regexp.MustCompile(`(?m)^#define LIBBPF_(?:MAJOR|MINOR)_VERSION (\d+)$`)

// toolchain names what the bytes of the kernel objects depend on: the compiler
// to its patch version, and the headers of libbpf, which are in the BTF.
func toolchain(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "clang-19", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking clang-19 for its version: %w", err)
	}
	clang, _, _ := strings.Cut(string(out), "\n")
	header, err := os.ReadFile(libbpfHeader)
	if err != nil {
		return "", fmt.Errorf("finding the version of libbpf: %w", err)
	}
	var numbers []string
	for _, m := range libbpfNumber.FindAllSubmatch(header, -1) {
		numbers = append(numbers, string(m[1]))
	}
	return clang + "\nlibbpf " + strings.Join(numbers, ".") + "\n", nil
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("         " + line)
	}
	return b.String()
}
