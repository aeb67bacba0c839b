// SPDX-License-Identifier: Apache-2.0

// Command host installs Weft on a plain host, and takes it off again: the
// binaries, the CNI plugin with its configuration, the systemd unit, and a
// configuration file if there is none. It starts and stops nothing.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/daemonset/cni/install"
)

//go:embed weft-agent.service
var unit []byte

//go:embed config.yaml
var config []byte

func main() {
	bin := flag.String("bin", "build/bin", "folder of the built binaries")
	root := flag.String("root", "/", "root of the file system to install into")
	remove := flag.Bool("remove", false, "take off what was installed; /etc/weft stays")
	flag.Parse()
	do := place
	if *remove {
		do = takeOff
	}
	if err := do(*bin, *root); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

// file is one thing to install.
type file struct {
	to      string
	from    string // a file in the folder of binaries, or
	content []byte
	mode    fs.FileMode
	keep    bool // leave what is there, also when removing
}

func contents() []file {
	return []file{
		{to: "usr/local/bin/weft", from: "weft", mode: 0o755},
		{to: "usr/local/bin/weft-agent", from: "weft-agent", mode: 0o755},
		{to: "usr/local/bin/weft-envoy", from: "weft-envoy", mode: 0o755},
		{to: "etc/systemd/system/weft-agent.service", content: unit, mode: 0o644},
		{to: "etc/weft/config.yaml", content: config, mode: 0o644, keep: true},
	}
}

func cni(bin, root string) install.Config {
	return install.Config{
		Binary:  filepath.Join(bin, install.BinaryName),
		BinDir:  filepath.Join(root, install.DefaultBinDir),
		ConfDir: filepath.Join(root, install.DefaultConfDir),
	}
}

func place(bin, root string) error {
	if err := os.MkdirAll(filepath.Join(root, "etc/weft/manifests"), 0o755); err != nil {
		return err
	}
	for _, f := range contents() {
		if err := placeOne(f, bin, filepath.Join(root, f.to)); err != nil {
			return err
		}
	}
	return install.Install(cni(bin, root))
}

// placeOne writes a file beside its place and moves it there, so that a running
// binary is replaced and not written to.
func placeOne(f file, bin, to string) error {
	if _, err := os.Stat(to); err == nil && f.keep {
		return nil
	}
	content := f.content
	if f.from != "" {
		var err error
		if content, err = os.ReadFile(filepath.Join(bin, f.from)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", content, f.mode); err != nil {
		return err
	}
	if err := os.Chmod(to+".new", f.mode); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

func takeOff(bin, root string) error {
	errs := []error{install.Remove(cni(bin, root))}
	for _, f := range contents() {
		if f.keep {
			continue
		}
		if err := os.Remove(filepath.Join(root, f.to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
