// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernel is one that a distribution ships, unpacked but not installed.
type kernel struct {
	release string // as `uname -r` prints it
	image   string // path of the bzImage
	config  string // path of its configuration
	modules string // folder of its modules
}

// fetchKernel has apt download what a meta-package such as
// linux-image-cloud-amd64 stands for, and unpacks it under cache. What is
// there from an earlier time is used as it is.
func fetchKernel(ctx context.Context, meta, cache string) (kernel, error) {
	name, err := imagePackage(ctx, meta)
	if err != nil {
		return kernel{}, err
	}
	root := filepath.Join(cache, name)
	if _, err := os.Stat(root); err == nil {
		return unpackedKernel(root)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return kernel{}, err
	}
	scratch, err := os.MkdirTemp(cache, "fetch")
	if err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(scratch)
	if _, err := output(ctx, scratch, "apt-get", "download", "-q", name); err != nil {
		return kernel{}, err
	}
	debs, err := filepath.Glob(filepath.Join(scratch, "*.deb"))
	if err != nil || len(debs) != 1 {
		return kernel{}, fmt.Errorf("apt-get download %s left %d packages", name, len(debs))
	}
	unpacked := filepath.Join(scratch, "root")
	if _, err := output(ctx, scratch, "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		return kernel{}, err
	}
	if err := os.Rename(unpacked, root); err != nil { // whole or not at all
		return kernel{}, err
	}
	return unpackedKernel(root)
}

// imagePackage is the package with the kernel itself that a meta-package
// depends on.
func imagePackage(ctx context.Context, meta string) (string, error) {
	out, err := output(ctx, "", "apt-cache", "depends", "--no-recommends", "--no-suggests", meta)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("apt knows no package %s (apt-get update?)", meta)
	}
	return m[1], nil
}

func unpackedKernel(root string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s holds %d kernels, not one", root, len(images))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	k := kernel{release: release, image: images[0], config: filepath.Join(root, "boot", "config-"+release)}
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		if at := filepath.Join(root, dir, release); exists(at) {
			k.modules = at
			return k, nil
		}
	}
	return kernel{}, fmt.Errorf("%s holds no modules of %s", root, release)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// module is one to load: its name and its content, not compressed.
type module struct {
	name    string
	content []byte
}

// bundle is the named modules and what they depend on, in an order in which
// they can be loaded. One that is not there is taken to be built in.
func (k kernel) bundle(ctx context.Context, names ...string) ([]module, error) {
	files, err := k.moduleFiles()
	if err != nil {
		return nil, err
	}
	var ordered []module
	seen := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		file, ok := files[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		content, err := readModule(ctx, file)
		if err != nil {
			return err
		}
		needs, err := dependencies(content)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		ordered = append(ordered, module{name, content})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// moduleFiles finds each module's file by the module's name.
func (k kernel) moduleFiles() (map[string]string, error) {
	files := make(map[string]string)
	err := filepath.WalkDir(k.modules, func(path string, _ os.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return files, err
}

func readModule(ctx context.Context, file string) ([]byte, error) {
	switch filepath.Ext(file) {
	case ".xz":
		out, err := output(ctx, "", "xz", "-dc", file)
		return []byte(out), err
	case ".zst":
		out, err := output(ctx, "", "zstd", "-dcq", file)
		return []byte(out), err
	}
	return os.ReadFile(file)
}

// dependencies are the modules that a module says it needs.
func dependencies(content []byte) ([]string, error) {
	f, err := elf.NewFile(strings.NewReader(string(content)))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo in it")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok {
			names := strings.Split(strings.ReplaceAll(list, "-", "_"), ",")
			return slices.DeleteFunc(names, func(n string) bool { return n == "" }), nil
		}
	}
	return nil, nil
}

// output runs a program and returns what it prints; the error holds what it
// complained about.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return string(out), nil
}
